//! What people run: values and texts that a bundle consists of.

pub mod manifest;
