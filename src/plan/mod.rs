//! What will be done.

pub mod grouping;
pub mod lint;
pub mod locking;
