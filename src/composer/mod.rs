//! What Composer says: composer.json and composer.lock, and every file that an installation takes.

pub mod definition;
mod json;
pub mod locked;
pub mod login;
pub mod machine;
pub mod requirements;
pub mod said;
pub mod wanted;

pub use json::{Json, JsonError, LARGEST};
