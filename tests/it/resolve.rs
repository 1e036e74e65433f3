//! The archive's answers against those of Debian's own tools.

use std::process::Command;

use parvis::debian::version::Version;

/// Returns whether a program answers here.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn versions_compare_as_dpkg_compares_them() {
    assert!(has("dpkg"), "this test asks dpkg");
    let versions = [
        "0",
        "0~",
        "0.0",
        "00",
        "1",
        "1.0",
        "1.0-1",
        "1.0-1~bpo1",
        "1.0-1+b1",
        "1.0-1+deb13u1",
        "1.0+dfsg-1",
        "1.0a-1",
        "1.0.1",
        "1:0",
        "1:1-0",
        "1.0-01",
        "2~rc1",
        "2~~",
        "2",
        "1.0-a",
        "1.0-1-1",
        "3+",
        "3-+",
    ];
    for left in versions {
        for right in versions {
            let order = left.parse::<Version>().unwrap().cmp(&right.parse().unwrap());
            let sign = match order {
                std::cmp::Ordering::Less => "lt",
                std::cmp::Ordering::Equal => "eq",
                std::cmp::Ordering::Greater => "gt",
            };
            let agreed = Command::new("dpkg").args(["--compare-versions", left, sign, right]).status().unwrap();
            assert!(agreed.success(), "{left} {sign} {right}");
        }
    }
}
