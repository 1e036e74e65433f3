//! What the bytes are.

pub mod accounts;
pub mod along;
pub mod archive;
pub mod canonical;
pub mod delta;
pub mod diff;
pub mod gate;
pub mod inspect;
pub mod layer;
pub mod layout;
pub mod member;
pub mod oci;
pub mod placed;
pub mod proof;
pub mod reader;
pub mod repository;
pub mod sbom;
pub mod secrets;
pub mod segment;
pub mod tar;
pub mod untar;
pub mod vex;
