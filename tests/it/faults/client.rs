//! Clients that leave, lag, drip, crowd, or ask in odd ways: cases 1 to 22, and 102.
mod asking;
mod lagging;
mod leaving;
mod uploading;
