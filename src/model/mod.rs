//! What things are: values that were checked when they were made.

pub mod digest;
pub mod lock;
pub mod name;
pub mod recipe;
pub mod tree;
