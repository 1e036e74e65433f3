//! What things are: values that were checked when they were made.

pub mod address;
pub mod catalog;
pub mod digest;
pub mod gates;
pub mod language;
pub mod licence;
pub mod lock;
pub mod moment;
pub mod name;
pub mod number;
pub mod problem;
pub mod project;
pub mod rebuild;
pub mod recipe;
pub mod reference;
pub mod release;
pub mod releases;
pub mod stack;
pub mod tree;
pub mod yaml;
