//! What people run: values and texts that a bundle consists of.

pub mod backup;
pub mod change;
mod compose;
pub mod delta;
mod guide;
pub mod manifest;
pub mod notes;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod write;
mod yaml;
