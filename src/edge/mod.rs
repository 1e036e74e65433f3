//! The doors: each file touches one part of the world outside. `draft` and `http` are no doors but what doors stand on.

pub mod again;
pub mod draft;
pub mod engine;
pub mod fetch;
pub mod git;
pub mod http;
pub mod keys;
pub mod layout;
pub mod offer;
pub mod openpgp;
pub mod output;
pub mod place;
pub mod project;
pub mod registry;
pub mod sandbox;
pub mod sources;
pub mod store;
