//! What Debian says.

pub mod package;
