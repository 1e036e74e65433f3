//! What the tests build their worlds from: packages, archives, servers, projects and accidents made by hand.
