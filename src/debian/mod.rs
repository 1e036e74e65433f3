//! What Debian says.

pub mod accounts;
pub mod changelog;
pub mod compose;
pub mod configure;
pub mod control;
pub mod copyright;
pub mod database;
pub mod index;
pub mod package;
pub mod relation;
pub mod release;
pub mod resolve;
pub mod tracker;
pub mod version;
