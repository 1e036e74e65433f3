//! What the tests build their worlds from: packages, archives, servers, projects and accidents made by hand.

pub mod badhttp;
pub mod badreg;
pub mod browser;
pub mod checkout;
pub mod daemon;
pub mod debreg;
pub mod fakebundle;
pub mod fakedocker;
pub mod fakerepo;
pub mod killat;
pub mod mirror;
pub mod mkdeb;
pub mod openpgp;
pub mod parish;
pub mod project;
pub mod rawtar;
pub mod schema;
pub mod user;
pub mod victim;
pub mod world;
