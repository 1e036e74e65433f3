//! What will be done.

pub mod lint;
