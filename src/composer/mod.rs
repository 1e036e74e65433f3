//! What Composer says: composer.json and composer.lock, and every file that an installation takes.

pub mod definition;
mod json;
pub mod locked;
pub mod requirements;
pub mod wanted;

pub use json::{Json, JsonError, LARGEST};
