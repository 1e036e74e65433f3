//! What people run: values and texts that a bundle consists of.

mod compose;
mod guide;
pub mod manifest;
#[cfg(test)]
mod tests;
pub mod write;
mod yaml;
