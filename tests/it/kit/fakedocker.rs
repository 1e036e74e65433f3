//! A `docker` that is a small shell script: it writes down how it was called, keeps a little state, and fails as it is told.
//!
//! ```text
//! STATE/calls           one line per call
//! STATE/rule            shell lines that come first in each call: they may print, fail or hang
//! STATE/jobs/NAME       shell lines of a job; `STATE/tools/PROGRAM` of a program that is run beside the services
//! STATE/inside/PROGRAM  shell lines of a program that is run in a container
//! STATE/of/NAME         the folder of the bundle that the service's container was made from
//! STATE/images          Ids, one a line;  STATE/loads  Ids that come with the next `load`
//! STATE/checks/NAME     shell lines that print the exit code of the service's last check
//! STATE/containers/NAME the service's state: `healthy`, `unhealthy`, `running`, `exited`
//! STATE/volumes/NAME    a folder with the volume's files
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

const SCRIPT: &str = r#"#!/bin/sh
S=STATE_FOLDER
echo "${0##*/} $*" >> "$S/calls"
[ -f "$S/rule" ] && . "$S/rule"
project=parish
describe() {
  # The service's name stands in the file's name, its state in the file.
  state=$(cat "$S/containers/$1"); health="\"$state\""; status=running; code=0
  case "$state" in running) health=null;; exited) health=null; status=exited; code=2;; esac
  [ "$health" = null ] || health="{\"Status\":$health,\"Log\":[{\"Output\":\"check says $state\"}]}"
  # What its last check said, and when: each look finds another check.
  [ -f "$S/checks/$1" ] && health="{\"Status\":\"$state\",\"Log\":[{\"Start\":\"$(date +%s%N)\",\"ExitCode\":$(. "$S/checks/$1"),\"Output\":\"it lacks its table\"}]}"
  off=False; case "$1" in *_run_*) off=True;; esac
  printf '{"Id":"%s","Image":"sha256:aa","RestartCount":0,"State":{"Status":"%s","ExitCode":%s,"StartedAt":"2026-11-24T08:00:00Z","Health":%s},' "$1" "$status" "$code" "$health"
  printf '"Config":{"Labels":{"com.docker.compose.project":"%s","com.docker.compose.service":"%s","com.docker.compose.oneoff":"%s"}}}' "$project" "$(echo "${1%%_run_*}" | cut -d@ -f1)" "$off"
}
# Containers of another project than the parish's have its name behind theirs.
own() { [ "$project" = parish ] && echo "$1" || echo "$1@$project"; }
is_own() { case "$project:$1" in parish:*@*) false;; parish:*) true;; *@"$project") true;; *) false;; esac; }
volumes() { for v in $(cat "$S/stack-volumes"); do mkdir -p "$S/volumes/${project}_$v"; done; }
compose() {
  while :; do case "$1" in --project-name) project=$2; shift 2;; --project-directory) folder=${2##*/}; shift 2;; --file|--env-file) shift 2;; *) break;; esac; done
  [ "$1" = version ] || env | grep -E '^(COMPOSE_|PORT=|SERVER_NAME=)' >> "$S/environment"
  case "$1" in
  version) cat "$S/compose-version";;
  up) volumes
    for service; do :; done
    name=$(own "$service")
    [ -f "$S/ups/$service" ] && . "$S/ups/$service"
    # One of another version is made anew, and so is one that has ended.
    [ "$(cat "$S/of/$name" 2>/dev/null)" = "$folder" ] && [ -f "$S/containers/$name" ] && [ "$(cat "$S/containers/$name")" != exited ] || cp "$S/becomes" "$S/containers/$name"
    echo "$folder" > "$S/of/$name"
    echo " Container $project-$service-1  Started" >&2;;
  run) volumes; shift; program=
    while :; do case "$1" in --rm|--no-deps|-T) shift;; --entrypoint) program=$2; shift 2;; *) break;; esac; done
    service=$1; shift
    [ -n "$program" ] && { . "$S/tools/$(basename "$program")"; return; }
    echo " Container $project-$service-run-1  Creating" >&2
    if [ -f "$S/jobs/$service" ]; then . "$S/jobs/$service"; else echo "$service is done"; fi;;
  stop) shift; for c in "$S"/containers/*; do case " $* " in "  "|*" ${c##*/} "*) [ -f "$c" ] && echo exited > "$c";; esac; done;;
  down) for c in "$S"/containers/*; do is_own "${c##*/}" && rm -f "$c"; done; true;;
  restart) cp "$S/becomes" "$S/containers/$2";;
  logs) [ -f "$S/words" ] && cat "$S/words";;
  esac
}
case "$(basename "$0")" in docker-compose) compose "$@"; exit;; esac
case "$1" in
version) cat "$S/version";;
compose) shift; [ -f "$S/no-plugin" ] && { echo "docker: 'compose' is not a docker command." >&2; exit 1; }; compose "$@";;
info) cat "$S/info";;
image) case "$2" in rm) grep -vx -- "$4" "$S/images" > "$S/rest"; mv "$S/rest" "$S/images";; *) cat "$S/images";; esac;;
exec) shift 3; program=$1; shift; . "$S/inside/$program";;
load) cat > "$S/loaded.tar"; cat "$S/loads" >> "$S/images"; echo "Loaded image: x";;
ps) project=${*##*project=}; for c in "$S"/containers/*; do [ -f "$c" ] && is_own "${c##*/}" && basename "$c"; done; true;;
container) shift 3; printf '['; comma=; for c; do [ -f "$S/containers/$c" ] || { echo "Error: No such container: $c" >&2; exit 1; }; printf '%s' "$comma"; describe "$c"; comma=,; done; printf ']\n';;
rm) shift 3; for c; do rm -f "$S/containers/${c#--}"; done;;
logs) echo "last words of $4" >&2;;
volume) case "$2" in
  ls) ls "$S/volumes";;
  create) for v; do :; done; mkdir -p "$S/volumes/$v";;
  rm) shift 3; for v; do rm -rf "$S/volumes/$v"; done;;
  esac;;
run) for a; do case "$a" in *:/volume:ro) v=${a%:/volume:ro};; *:/volume) v=${a%:/volume};; esac; done
  # This machine's users are not root's in all tests: owners are written down, not set.
  case "$*" in *--create*) tar -C "$S/volumes/$v" --numeric-owner --sort=name -cf - .;; *) tar -C "$S/volumes/$v" --no-same-owner -xf -;; esac;;
esac
"#;

/// A machine whose docker is the script.
pub struct FakeDocker {
    place: TempDir,
}

impl FakeDocker {
    /// Makes a docker 28 with compose 2.26 that has no image and runs nothing.
    pub fn new() -> Self {
        let place = tempfile::Builder::new().prefix("docker-").tempdir().unwrap();
        let fake = Self { place };
        for folder in [
            "bin",
            "state/jobs",
            "state/ups",
            "state/tools",
            "state/inside",
            "state/of",
            "state/checks",
            "state/containers",
            "state/volumes",
        ] {
            fs::create_dir_all(fake.place.path().join(folder)).unwrap();
        }
        let script = SCRIPT.replace("STATE_FOLDER", fake.state("").to_str().unwrap());
        for name in ["docker", "docker-compose"] {
            let path = fake.place.path().join("bin").join(name);
            fs::write(&path, &script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fake.set("version", "28.2.2\n");
        fake.set("compose-version", "2.26.1\n");
        fake.set("becomes", "healthy\n");
        fake.set("images", "");
        fake.set("loads", "");
        fake.set("stack-volumes", "authorities keys-db database\n");
        let root = fake.state("").display().to_string();
        fake.set("info", &format!(r#"{{"DockerRootDir":"{root}","Architecture":"x86_64","OSType":"linux"}}"#));
        fake
    }

    fn state(&self, name: &str) -> PathBuf {
        self.place.path().join("state").join(name)
    }

    /// Writes a file of the state.
    pub fn set(&self, name: &str, text: &str) {
        fs::write(self.state(name), text).unwrap();
    }

    /// Removes a file of the state.
    pub fn unset(&self, name: &str) {
        let _ = fs::remove_file(self.state(name));
    }

    pub fn get(&self, name: &str) -> String {
        fs::read_to_string(self.state(name)).unwrap_or_default()
    }

    pub fn has(&self, name: &str) -> bool {
        self.state(name).exists()
    }

    /// Writes a file of a volume.
    pub fn fill(&self, volume: &str, file: &str, text: &str) {
        let folder = self.state("volumes").join(volume);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), text).unwrap();
    }

    /// Returns the calls since the last time, and forgets them.
    pub fn calls(&self) -> Vec<String> {
        let calls = self.get("calls").lines().map(str::to_owned).collect();
        self.unset("calls");
        calls
    }

    /// Returns a `PATH` in which this docker comes first.
    pub fn path(&self) -> String {
        format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.place.path().join("bin").display())
    }

    /// Returns a `PATH` in which nothing of docker is found.
    pub fn bare_path(&self) -> String {
        let bare = self.place.path().join("bare");
        fs::create_dir_all(&bare).unwrap();
        bare.display().to_string()
    }

    pub fn home(&self) -> &Path {
        self.place.path()
    }
}
