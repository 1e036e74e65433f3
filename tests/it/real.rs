//! The images of this repository from the real archive: locked, built, tried, and run by a real Docker.
//!
//! Takes the mirror from the host's apt sources. Docker's part needs root, `dockerd` and `docker`.

use crate::judges;
use crate::kit::checkout::Checkout;
use crate::kit::daemon::Docker;
use crate::site;

#[test]
fn the_images_of_this_repository_are_built_and_keep_their_promises() {
    let place = Checkout::new();
    place.run(&["lock", "--update"]);
    place.run(&["lock", "--check"]);
    let table = place.run(&["build"]);
    assert!(table.contains("12 images built"), "{table}");
    let again = place.run(&["build"]);
    assert!(again.contains("nothing changed"), "{again}");
    let tests = place.run(&["test"]);
    assert!(tests.contains(" passed, 0 failed"), "{tests}");

    // The package database is one that dpkg itself finds valid.
    for image in ["base", "httpd"] {
        let root = |command: &[&str]| place.run(&[&["run", image, "--user", "root", "--"], command].concat());
        assert_eq!(root(&["dpkg", "--audit"]), "");
        // What the recipe removes or replaces is all that may differ.
        let differing = root(&["sh", "-c", "dpkg --verify || true"]);
        let declared = ["/etc/apache2/", "/var/www/html/", "/etc/timezone", "/etc/php/"];
        for line in differing.lines() {
            assert!(declared.iter().any(|path| line.contains(path)), "{image}: {line}");
        }
        let states = root(&["dpkg-query", "-W", "-f", "${db:Status-Abbrev}\n"]);
        assert!(states.lines().count() > 60 && states.lines().all(|state| state == "ii "), "{states}");
    }

    judges::lists_are_valid(&place);
    judges::apt_would_install_more(&place);
    judges::a_command_may_say_much(&place);
    place.run(&["save", "php", "httpd", "--output", place.path("images.tar").to_str().unwrap()]);
    with_docker(&place);
}

/// Hands the archive to a Docker of this test's own, if there is one to be had.
fn with_docker(place: &Checkout) {
    let Some(docker) = Docker::start(&place.path("docker")) else {
        eprintln!("skipped: Docker was not tried: this needs root, dockerd and docker");
        return;
    };
    docker.run(&["load", "--input", place.path("images.tar").to_str().unwrap()]);
    let php = docker.run(&["run", "--rm", "--network", "none", "civiparoisse/php:dev", "php", "-v"]);
    assert!(php.starts_with("PHP 8.4"), "{php}");
    let arguments = ["run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp", "--entrypoint", "apachectl"];
    docker.run(&[&arguments[..], &["civiparoisse/httpd:dev", "configtest"]].concat());
    site::keeps_its_promises(place, &docker);
}
