//! The whole stack of this repository on a real Docker, as volunteers have it: what is promised of it is tried from all sides.
//!
//! `real` builds the images and begins; nothing here is a test of its own, because one site serves them all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parvis::model::digest::FileDigest;
use serde_json::{Value, json};

use crate::kit::browser::Browser;
use crate::kit::checkout::{Checkout, said};
use crate::kit::daemon::{Docker, Outside};

const ADDRESS: &str = "https://localhost:8443";

/// What runs all the time, and under which number; what runs once and ends.
const SERVICES: [(&str, u32); 4] = [("db", 990), ("httpd", 33), ("proxy", 33), ("cron", 33)];
const JOBS: [(&str, u32); 4] = [("selfkeys", 1001), ("init", 33), ("update", 33), ("tools", 33)];

/// The site that runs, and who may log in.
struct Site<'a> {
    place: &'a Checkout,
    docker: &'a Docker,
    password: String,
    /// The folder of the bundle that runs.
    bundle: PathBuf,
}

/// Tries everything, in an order that needs few starts.
pub fn keeps_its_promises(place: &Checkout, docker: &Docker) {
    let begun = Instant::now();
    let step = |what: &str| eprintln!("{:>4} s  {what}", begun.elapsed().as_secs());
    let mut site = Site::installed_in_spite_of_kills(place, docker);
    step("installed");
    site.lets_in_who_is_known();
    site.add_person(&["first_name=Éléonore", "last_name=d’Aquitaine", "born_on=1924-02-29"]);
    assert!(site.page("/people?q=eleonore").contains("d’Aquitaine"));
    site.is_used_by_a_browser();
    step("used");
    site.begins_periodic_work();
    site.every_container_is_confined();
    site.nobody_gets_past_the_proxy();
    site.only_the_proxy_reaches_outside();
    step("guarded");
    site.installs_once();
    step("installed twice");
    site.does_periodic_work();
    step("periodic work");
    site.no_secret_is_elsewhere();
    step("secrets");

    // Nothing changes the second time.
    let again = site.up();
    assert!(again["password"].is_null() && again["changed"] == json!(false), "{again}");
    site.comes_back_from_a_backup();
    step("restored");
    site.makes_way_for_a_new_version_or_stays();
    step("upgraded");
    site.demo(&["down"]);
    assert_eq!(docker.run(&["ps", "--all", "--quiet"]), "");
}

impl<'a> Site<'a> {
    /// Starts the site for the first time. It is killed three times meanwhile, and once the database with it.
    fn installed_in_spite_of_kills(place: &'a Checkout, docker: &'a Docker) -> Self {
        let mut site = Self { place, docker, password: String::new(), bundle: PathBuf::new() };
        site.kill_while_it_starts("selfkeys", &["selfkeys"]);
        site.kill_while_it_starts("init", &["init"]);
        let keys = docker.volume_digest("civiparoisse_authorities");
        site.kill_while_it_starts("init", &["init", "db"]);
        let up = site.up();
        up["password"].as_str().unwrap().clone_into(&mut site.password);
        site.bundle = up["folder"].as_str().unwrap().into();
        assert_eq!(
            docker.volume_digest("civiparoisse_authorities"),
            keys,
            "the keys are still those of the start that was killed"
        );
        assert_eq!(docker.inside("cron", &["php", "/app/bin/annuaire", "user", "list"]).trim(), "admin  administrator");
        site
    }

    /// Starts the site, and kills parvis and these containers as soon as that of a job runs.
    fn kill_while_it_starts(&self, job: &str, others: &[&str]) {
        let log = fs::File::create(self.place.path("killed.log")).unwrap();
        let mut up = self.docker.parvis_command(self.place, &["demo", "up"]);
        let mut up = up.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let begun = Instant::now();
        while self.docker.containers(job).is_empty() {
            let ended = up.try_wait().unwrap();
            let log = || fs::read_to_string(self.place.path("killed.log")).unwrap();
            assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(300), "{job} does not run: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        up.kill().unwrap();
        for name in others.iter().flat_map(|service| self.docker.containers(service)) {
            // What has ended by itself need not be killed.
            let _ = self.docker.command(&["kill", &name]).output().unwrap();
        }
        up.wait().unwrap();
    }

    fn demo(&self, arguments: &[&str]) -> String {
        self.docker.parvis(self.place, &[&["demo"], arguments].concat())
    }

    fn up(&self) -> Value {
        serde_json::from_str(&self.demo(&["up", "--json"])).unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> String {
        self.docker.shell("curl", &[&["--silent", "--insecure", "--max-time", "30"], arguments].concat())
    }

    /// Returns the status that the page has for these options of curl; `000` where nobody answers.
    fn status(&self, options: &[&str]) -> String {
        let always = ["--silent", "--insecure", "--max-time", "30", "--output", "/dev/null", "--write-out", "%{http_code}"];
        let output = self.docker.beside("curl", &[&always[..], options].concat()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn login(&self) -> String {
        format!("admin:{}", self.password)
    }

    fn page(&self, path: &str) -> String {
        self.ask(&["--user", &self.login(), &format!("{ADDRESS}{path}")])
    }

    fn lets_in_who_is_known(&self) {
        let front = format!("{ADDRESS}/");
        assert_eq!(self.status(&[&front]), "401");
        assert_eq!(self.status(&["--user", "admin:wrong-password", &front]), "401");
        assert_eq!(self.status(&["--user", &self.login(), &front]), "200");
        assert!(self.page("/").contains("Paroisse de démonstration"), "{}", self.page("/"));
    }

    /// Adds a person as a form does it, with its token.
    fn add_person(&self, fields: &[&str]) {
        let form = self.page("/people/new");
        let token = form.split_once("name=\"token\" value=\"").unwrap().1.split('"').next().unwrap();
        let token = format!("token={token}");
        let fields = [&*token].into_iter().chain(fields.iter().copied()).flat_map(|field| ["--data-urlencode", field]);
        let fields: Vec<&str> = fields.collect();
        self.ask(&[&["--user", &self.login()], &fields[..], &[&format!("{ADDRESS}/people/new")]].concat());
    }

    /// Logs in with a browser, finds a person, adds one, and finds that one after everything was stopped and started.
    fn is_used_by_a_browser(&self) {
        let address = format!("https://{}@localhost:8443/", self.login());
        let Some(browser) = Browser::open(self.docker) else {
            eprintln!("skipped: no browser was tried: this needs chromium and chromedriver");
            return;
        };
        browser.visit(&address);
        assert!(browser.text().contains("Connecté : admin (Administration)"), "{}", browser.text());
        browser.picture("1-logged-in");
        browser.write("input[name=q]", "eleonore");
        browser.click("form[role=search] button");
        assert!(browser.text().contains("1 personne\n") && browser.text().contains("Éléonore d’Aquitaine"), "{}", browser.text());
        browser.picture("2-found");
        browser.click("a[href='/people/new']");
        browser.write("input[name=first_name]", "Geneviève");
        browser.write("input[name=last_name]", "Dupré <Latour>");
        browser.write("input[name=phone]", "03 88 00 00 00");
        browser.click("main form button");
        assert!(browser.text().contains("Geneviève Dupré <Latour>") && browser.text().contains("03 88"), "{}", browser.text());
        browser.picture("3-added");
        drop(browser);

        self.demo(&["stop"]);
        assert_eq!(self.status(&[&address]), "000");
        self.up();
        let browser = Browser::open(self.docker).unwrap();
        browser.visit(&address);
        browser.write("input[name=q]", "genevieve");
        browser.click("form[role=search] button");
        browser.click("main table a");
        assert!(browser.text().contains("Geneviève Dupré <Latour>") && browser.text().contains("03 88"), "{}", browser.text());
        browser.picture("4-after-a-restart");
    }

    /// Returns the first line of what a query answers, as the application sees the database.
    fn value(&self, query: &str) -> String {
        let script = "$options = [PDO::MYSQL_ATTR_SSL_CA => '/keys/database-ca.crt']; \
            $db = new PDO('mysql:host=db;dbname=annuaire', 'annuaire', file_get_contents('/keys/db-app'), $options); \
            echo json_encode($db->query($argv[1])->fetchAll(PDO::FETCH_NUM));";
        self.docker.inside("cron", &["php", "-r", script, "--", query])
    }

    /// Sees to it that somebody has a birthday, and that the periodic job runs each minute.
    fn begins_periodic_work(&self) {
        let day = said(&Command::new("date").args(["--date", "2 days", "+%m-%d"]).output().unwrap(), "date");
        self.add_person(&["first_name=Ursule", "last_name=Prochaine", &format!("born_on=1984-{}", day.trim())]);
        assert_eq!(self.value("SELECT COUNT(*) FROM birthdays"), "[[0]]");
        let settings = self.bundle.join(".env");
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, text.replace("CRON_MINUTES=15", "CRON_MINUTES=1")).unwrap();
        let up = self.up();
        assert_eq!(up["changed"], json!(true), "{up}");
    }

    /// The birthday is in the table and in the log without anybody having asked, and again a minute later.
    fn does_periodic_work(&self) {
        let begun = Instant::now();
        let turns = || self.docker.everything_said(&self.docker.container("cron")).matches("birthdays from ").count();
        while turns() < 2 {
            assert!(begun.elapsed() < Duration::from_secs(90), "the periodic job ran {} times", turns());
            std::thread::sleep(Duration::from_millis(500));
        }
        let found = self.value("SELECT last_name, age > 40 FROM birthdays JOIN people ON people.id = person");
        assert_eq!(found, r#"[["Prochaine",1]]"#);
        let log = self.docker.everything_said(&self.docker.container("cron"));
        assert!(log.contains("Ursule Prochaine, "), "{log}");
    }

    /// Holds each container against what the recipes and the stack say of it: number, rights, file systems, ports.
    fn every_container_is_confined(&self) {
        let confined = |name: &str, user: u32, status: &str, mounts: &str| {
            let none = "0000000000000000";
            let rights = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| format!("{set}:\t{none}"));
            let others = ["NoNewPrivs:\t1".to_owned(), "Seccomp:\t2".to_owned(), format!("Uid:\t{user}\t{user}\t{user}\t{user}")];
            for expected in rights.iter().chain(&others) {
                assert!(status.contains(expected), "{name}: {expected}\n{status}");
            }
            let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
            assert!(root.split(' ').nth(3).unwrap().split(',').any(|option| option == "ro"), "{name}: {root}");
        };
        for (service, user) in SERVICES {
            let container = self.docker.container(service);
            let process = self.docker.run(&["inspect", "--format", "{{.State.Pid}}", &container]);
            let of_process = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.trim())).unwrap();
            confined(service, user, &of_process("status"), &of_process("mounts"));
            // Not even root could write there, if somebody became root.
            let write = ["exec", "--user", "0", &container, "sh", "-c", "echo x > /etc/x"];
            let written = self.docker.command(&write).output().unwrap();
            assert!(String::from_utf8_lossy(&written.stderr).contains("Read-only file system"), "{service}: {written:?}");
            let expected = if service == "proxy" { "443/tcp -> 127.0.0.1:8443\n" } else { "" };
            assert_eq!(self.docker.run(&["port", &container]), expected, "{service}");
        }
        for (job, user) in JOBS {
            let look = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "cat", job, "/proc/self/status", "/proc/self/mounts"];
            let seen = said(&self.docker.compose(&self.bundle, &look).output().unwrap(), job);
            let mounts = seen.lines().filter(|line| line.contains(" / ")).collect::<Vec<_>>().join("\n");
            confined(job, user, &seen, &mounts);
        }
        // Whoever listens on this machine does so for this machine alone.
        let listening = self.docker.shell("ss", &["--no-header", "--listening", "--tcp", "--udp", "--numeric"]);
        let own: Vec<&str> = listening.lines().map(|line| line.split_whitespace().nth(4).unwrap()).collect();
        assert_eq!(own, ["127.0.0.1:8443"]);
    }

    /// Tries the doors that are none.
    fn nobody_gets_past_the_proxy(&self) {
        let refused = |service: &str, command: &[&str], expected: &str| {
            let output = self.docker.command(&[&["exec", &self.docker.container(service)], command].concat()).output().unwrap();
            assert!(!output.status.success() && everything(&output).contains(expected), "{service}: {command:?}: {output:?}");
        };
        // Whoever has no certificate of the inner authority is refused within TLS.
        let direct = ["curl", "--silent", "--show-error", "--cacert", "/keys/inside-ca.crt", "https://httpd:444/health"];
        refused("proxy", &direct, "certificate required");
        // With one of another authority as well; with one of that authority in another name the server itself refuses. Only as the proxy
        // one is asked for a password.
        let authorities = self.docker.volume("civiparoisse_authorities");
        assert_eq!(self.asks_httpd("proxy", &authorities.join("inside")), "401");
        for name in ["other", "httpd", "Proxy", "proxy.example"] {
            assert_eq!(self.asks_httpd(name, &authorities.join("inside")), "403", "{name}");
        }
        for authority in ["outside", "database"] {
            assert_eq!(self.asks_httpd("proxy", &authorities.join(authority)), "000", "{authority}");
        }

        let connect = |options: &str| {
            format!(
                "try {{ new PDO('mysql:host=db', 'annuaire', file_get_contents('/keys/db-app'), {options}); }} catch (PDOException $e) {{ fwrite(STDERR, $e->getMessage()); exit(1); }}"
            )
        };
        refused("cron", &["php", "-r", &connect("[]")], "insecure transport");
        let checked = |authority: &str| {
            format!("[PDO::MYSQL_ATTR_SSL_CA => '{authority}', PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true]")
        };
        let other = connect(&checked("/etc/ssl/certs/ca-certificates.crt"));
        refused("cron", &["php", "-d", "display_errors=stderr", "-r", &other], "Cannot connect to MySQL using SSL");
        self.docker.inside("cron", &["php", "-r", &connect(&checked("/keys/database-ca.crt"))]);
    }

    /// Returns the status with which httpd answers somebody in its network, who has a certificate in this name of this authority.
    fn asks_httpd(&self, name: &str, authority: &Path) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = |file: &str| folder.path().join(file).to_str().unwrap().to_owned();
        let with = |ending: &str| authority.with_extension(ending).to_str().unwrap().to_owned();
        let openssl = |arguments: &[&str]| said(&Command::new("openssl").args(arguments).output().unwrap(), "openssl");
        let subject = format!("/O=Civiparoisse/CN={name}");
        let (key, request, certificate) = (path("key"), path("request"), path("certificate"));
        let new = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", &subject];
        openssl(&[&new[..], &["-keyout", &key, "-out", &request]].concat());
        fs::write(path("extensions"), "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=clientAuth\n").unwrap();
        let sign = ["x509", "-req", "-in", &request, "-CA", &with("crt"), "-CAkey", &with("key"), "-days", "1"];
        openssl(&[&sign[..], &["-extfile", &path("extensions"), "-out", &certificate]].concat());
        let format = "{{(index .NetworkSettings.Networks \"civiparoisse_httpd\").IPAddress}}";
        let address = self.docker.run(&["inspect", "--format", format, &self.docker.container("httpd")]);
        let resolve = format!("httpd:444:{}", address.trim());
        self.status(&["--resolve", &resolve, "--cert", &certificate, "--key", &key, "https://httpd:444/"])
    }

    fn only_the_proxy_reaches_outside(&self) {
        for network in ["civiparoisse_db", "civiparoisse_httpd"] {
            assert_eq!(self.docker.run(&["network", "inspect", "--format", "{{.Internal}}", network]), "true\n", "{network}");
        }
        let _outside = Outside::beside(self.docker);
        // The proxy's address in the one network that leads out, and somebody who listens beyond it.
        let format = "{{(index .NetworkSettings.Networks \"civiparoisse_outside\").IPAddress}}";
        let proxy = self.docker.run(&["inspect", "--format", format, &self.docker.container("proxy")]);
        for (address, port) in [(proxy.trim(), 443), (Outside::ADDRESS, 80)] {
            let connect = format!("exec 3<>/dev/tcp/{address}/{port}");
            for (service, _) in SERVICES {
                let command = ["exec", &self.docker.container(service), "timeout", "3", "bash", "-c", &connect];
                let reached = self.docker.command(&command).output().unwrap().status.success();
                assert_eq!(reached, service == "proxy", "{service} to {address}");
            }
        }
    }

    /// Returns the database as a backup has it.
    fn dump(&self) -> String {
        let dump = self.docker.inside("cron", &["/usr/local/lib/civiparoisse/database-save"]);
        assert!(dump.contains("Aquitaine") && dump.contains("INSERT INTO `users`"), "{dump}");
        dump
    }

    fn installs_once(&self) {
        let before = self.dump();
        for _ in 0..2 {
            let output = self.docker.compose(&self.bundle, &["run", "--rm", "--no-deps", "-T", "init"]).output().unwrap();
            assert!(output.status.success() && everything(&output).contains("already installed"), "{output:?}");
        }
        assert_eq!(self.dump(), before);
    }

    /// Looks for everything that was made secretly in everything that the daemon keeps: images as they are unpacked, containers, their logs and
    /// settings; in what it shows; in what programs were started with; and beside the bundle. Only volumes have them.
    fn no_secret_is_elsewhere(&self) {
        let volumes = self.docker.data().join("volumes");
        let mut secrets = BTreeSet::new();
        for entry in fs::read_dir(&volumes).unwrap() {
            let Ok(files) = fs::read_dir(entry.unwrap().path().join("_data")) else { continue };
            let keys = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "key"));
            secrets.extend(keys.map(|key| fs::read_to_string(key).unwrap().lines().nth(1).unwrap().to_owned()));
        }
        for entry in fs::read_dir(self.docker.volume("civiparoisse_authorities").join("secrets")).unwrap() {
            secrets.insert(fs::read_to_string(entry.unwrap().path()).unwrap());
        }
        // Three authorities, four services with a key of their own, and three passwords, of which people are told one.
        assert!(secrets.len() == 10 && secrets.contains(&self.password), "{}", secrets.len());
        assert!(secrets.iter().all(|secret| secret.len() > 15));
        let secrets = secrets.into_iter().collect::<Vec<_>>();
        let list = self.place.path("secrets");
        fs::write(&list, secrets.join("\n")).unwrap();
        let search = "find \"$1\" -xdev -path \"$2\" -prune -o -type f -print0 | xargs --null grep --files-with-matches --fixed-strings --file \"$3\"; true";
        let search = |folder: &Path, except: &Path| {
            said(&Command::new("sh").args(["-c", search, "sh"]).arg(folder).arg(except).arg(&list).output().unwrap(), "grep")
        };
        assert!(search(&volumes, Path::new("/")).lines().count() >= secrets.len(), "what is to be found is not");
        assert_eq!(search(&self.docker.data(), &volumes), "");
        assert_eq!(search(&self.bundle, Path::new("/")), "");

        let mut seen = String::new();
        let ids = |arguments: &[&str]| self.docker.run(arguments).lines().map(str::to_owned).collect::<BTreeSet<_>>();
        for id in ids(&["image", "ls", "--all", "--quiet"]) {
            seen += &self.docker.run(&["image", "inspect", &id]);
            seen += &self.docker.run(&["image", "history", "--no-trunc", &id]);
        }
        seen += &self.demo(&["logs"]);
        for id in ids(&["ps", "--all", "--quiet"]) {
            seen += &self.docker.run(&["inspect", &id]);
            seen += &self.docker.everything_said(&id);
            let processes = self.docker.run(&["top", &id, "-o", "pid"]);
            for process in processes.lines().skip(1).map(str::trim) {
                for file in ["cmdline", "environ"] {
                    // A program may have ended since.
                    let bytes = fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
                    let _ = write!(seen, "{}", String::from_utf8_lossy(&bytes));
                }
            }
        }
        assert!(seen.len() > 20_000 && seen.contains("CRON_MINUTES=1") && seen.contains("birthdays from"));
        assert!(!secrets.iter().any(|secret| seen.contains(secret)), "a secret is in what Docker shows");
    }

    /// Saves everything, removes everything, and compares what comes back: each row, and each file of each volume but the database's own.
    fn comes_back_from_a_backup(&self) {
        let volumes = self.docker.run(&["volume", "ls", "--quiet"]);
        let files = || -> BTreeMap<&str, FileDigest> {
            let others = volumes.lines().filter(|name| *name != "civiparoisse_database");
            others.map(|name| (name, self.docker.volume_digest(name))).collect()
        };
        let before = (self.dump(), files());
        assert!(before.1.len() >= 8, "{volumes}");
        let backup = self.place.path("backup.tar");
        let backup = backup.to_str().unwrap();
        self.demo(&["backup", backup]);
        self.demo(&["reset", "--yes"]);
        assert_eq!(self.docker.run(&["volume", "ls", "--quiet"]), "");
        self.compose_of_the_project();
        self.demo(&["restore", backup]);
        assert_eq!(self.dump(), before.0);
        assert_eq!(files(), before.1);
        assert_eq!(self.status(&["--user", &self.login(), ADDRESS]), "200");
    }

    /// From here on compose is at least the second of that name, which replaces services before what they wait for has ended well.
    fn compose_of_the_project(&self) {
        let version = self.docker.compose(&self.bundle, &["version", "--short"]).output().unwrap();
        if String::from_utf8_lossy(&version.stdout).trim_start_matches('v').starts_with("1.") {
            let program = self.place.file_of_package("docker-compose", "/usr/libexec/docker/cli-plugins/docker-compose");
            self.docker.install("docker-compose", &program);
        }
        let version = said(&self.docker.compose(&self.bundle, &["version", "--short"]).output().unwrap(), "compose version");
        assert!(version.trim_start_matches('v').starts_with(['2', '3', '4', '5']), "{version}");
    }

    /// Returns the bundle of another version, with one more migration.
    fn version(&self, number: &str, migration: &str) -> PathBuf {
        let application = self.place.path("images/composer_files/annuaire");
        fs::write(application.join(format!("migrations/0{}-more.sql", number.replace('.', ""))), migration).unwrap();
        let pages = application.join("src/Pages.php");
        let text = fs::read_to_string(&pages).unwrap();
        let (before, after) = text.split_once("'/' => 'Accueil").unwrap();
        let after = after.split_once('\'').unwrap().1;
        fs::write(&pages, format!("{before}'/' => 'Accueil {number}'{after}")).unwrap();
        self.place.run(&["build"]);
        let folder = self.place.path(number);
        self.place.run(&["bundle", "compose", "--with-images", "--tag", number, "--output", folder.to_str().unwrap()]);
        folder
    }

    /// Returns what people entered, whichever columns a version adds.
    fn rows(&self) -> String {
        let queries = [
            "SELECT id, household, first_name, last_name, born_on, phone, mail FROM people ORDER BY id",
            "SELECT * FROM users ORDER BY login",
            "SELECT * FROM settings ORDER BY name",
        ];
        queries.map(|query| self.value(query)).join("\n")
    }

    /// Two more versions: one with a migration, and one whose migration fails half-way.
    fn makes_way_for_a_new_version_or_stays(&mut self) {
        let rows = self.rows();
        assert!(rows.contains("Aquitaine") && rows.contains("administrator"), "{rows}");
        let new = self.version("1.5.0", "ALTER TABLE people ADD COLUMN note VARCHAR(200) NOT NULL DEFAULT '';\n");
        let said: Value =
            serde_json::from_str(&self.demo(&["upgrade", "--unverified", new.to_str().unwrap(), "--json"])).unwrap();
        assert_eq!((&said["version"], &said["previous"]["moved"]), (&json!("1.5.0"), &json!(true)));
        assert_eq!(self.rows(), rows);
        assert!(self.page("/").contains("Accueil 1.5.0"));
        self.bundle = new;
        self.every_check_was_made_after_the_last_start();

        let broken = "ALTER TABLE people ADD COLUMN more INT;\nUPDATE people SET last_name = 'gone';\nALTER TABLE nobody ADD COLUMN x INT;\n";
        let broken = self.version("1.6.0", broken);
        let before = self.dump();
        let mut upgrade = self.docker.parvis_command(self.place, &["demo", "upgrade", "--unverified", broken.to_str().unwrap()]);
        let output = upgrade.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", everything(&output));
        let expected = "the upgrade to `1.6.0` failed; `1.5.0` runs again, with its data";
        assert!(everything(&output).contains(expected), "{}", everything(&output));
        assert_eq!(self.dump(), before);
        assert_eq!(self.status(&["--user", &self.login(), ADDRESS]), "200");
        assert!(self.page("/").contains("Accueil 1.5.0"));

        // What compose alone makes of the same: what ran is gone before it is known that nothing can take its place.
        let output = self.docker.compose(&broken, &["up", "-d"]).output().unwrap();
        assert!(!output.status.success(), "{}", everything(&output));
        assert_ne!(self.status(&["--user", &self.login(), ADDRESS]), "200", "{}", everything(&output));
        assert!(self.docker.containers("httpd").is_empty(), "{}", everything(&output));
    }

    /// An upgrade has waited until each service was found well once more since the last of them was started.
    fn every_check_was_made_after_the_last_start(&self) {
        let ask = |service: &str, format: &str| {
            self.docker.run(&["inspect", "--format", format, &self.docker.container(service)]).trim().to_owned()
        };
        let started = SERVICES.map(|(service, _)| ask(service, "{{.State.StartedAt}}").parse::<Timestamp>().unwrap());
        let last = started.into_iter().max().unwrap();
        for (service, _) in SERVICES {
            let checks = ask(service, "{{range .State.Health.Log}}{{.ExitCode}} {{json .Start}}\n{{end}}");
            let (code, when) = checks.lines().last().unwrap().split_once(' ').unwrap();
            let when: Timestamp = when.trim_matches('"').parse().unwrap();
            assert!(code == "0" && when > last, "{service}: {checks}, {last}");
        }
    }
}

/// Returns what a program wrote, to either stream.
fn everything(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
