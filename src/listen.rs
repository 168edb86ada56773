//! (laid out next)
<<<<<<< HEAD
pub mod inherited;
pub mod notify;
pub mod socket;
pub mod tls;
=======
pub mod head;
>>>>>>> gate
