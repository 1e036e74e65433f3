//! What the bytes are.

pub mod gate;
pub mod layer;
pub mod member;
pub mod segment;
pub mod tar;
