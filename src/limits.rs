//! Who may use how much, and who goes next.
//!
//! [`price`] knows what tokens cost, [`predict`] how many there will be, [`pace`] how fast a backend
//! lets us go. Nothing here knows HTTP statuses, sockets or a clock: time is an argument.
pub mod pace;
pub mod predict;
pub mod price;
