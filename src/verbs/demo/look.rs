//! `parvis demo status`, `logs` and `password`: what runs, what it says, and how one gets in.

use serde_json::json;

use super::change_words::Trouble;
use super::machine::Machine;
use super::place::Place;
use super::start::{all_well, read_password};
use super::words::{Column, Line, Problem};
use super::{Arguments, Logs};
use crate::bundle::manifest::{ServiceKind, When};
use crate::screen::table;
use crate::verbs::{Answer, Context};

/// Prints the table of services; the answer is no where one of them is not well.
pub fn status(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let place = Place::find(arguments, context)?;
    let machine = Machine::find(arguments, &place, context)?;
    let containers = machine.containers()?;
    let language = context.language;
    if let Some(journal) = place.under_way()? {
        context.screen.note(place.voice.change(Trouble::UnderWay { version: journal.to.version }).message());
    }
    let text = |line: Line| line.text(language);
    let (mut rows, mut listed, mut unwell) = (Vec::new(), Vec::new(), Vec::new());
    for service in place.manifest.services.iter().filter(|service| service.kind == ServiceKind::Service) {
        let name = service.name.as_str();
        let own = containers.iter().rfind(|container| container.service == name && !container.one_off);
        if !own.is_some_and(crate::edge::engine::Container::is_well) {
            unwell.push(name);
        }
        let state = own.map_or("absent", |container| container.status.as_str());
        let health = own.and_then(|container| container.health.as_deref());
        let since = own.filter(|container| container.status == "running").map(|container| container.started.as_str());
        listed.push(json!({"service": name, "state": state, "health": health, "since": since}));
        rows.push(vec![
            name.to_owned(),
            text(Line::State(state.to_owned())),
            text(Line::Health(health.unwrap_or_default().to_owned())),
            since.and_then(|since| ago(since, context.now, language.choose('d', 'j'))).unwrap_or_else(|| "-".into()),
        ]);
    }
    let certificates: Vec<(String, String, i64)> = place
        .memory
        .certificates
        .iter()
        .filter_map(|certificate| {
            let days = days_until(&certificate.until, context.now)?;
            Some((certificate.name.clone(), certificate.until.clone(), days))
        })
        .collect();
    let url = place.manifest.login.as_ref().map(|login| place.filled(&login.url));
    context.answer(
        || {
            let certificates: Vec<_> =
                certificates.iter().map(|(name, until, days)| json!({"name": name, "until": until, "days": days})).collect();
            json!({
                "bundle": place.manifest.name, "version": place.manifest.version, "folder": place.folder.path(), "url": url,
                "well": unwell.is_empty(), "services": listed, "certificates": certificates,
            })
        },
        || {
            let head = [Column::Service, Column::State, Column::Health, Column::Since].map(|column| text(Line::Column(column)));
            let head: Vec<&str> = head.iter().map(String::as_str).collect();
            let mut lines = table(&head, &rows);
            lines.extend(url.clone().map(|url| text(Line::Address { url })));
            // The one that ends first matters; the others follow it.
            let first = certificates.iter().min_by_key(|(_, _, days)| *days);
            lines.push(first.map_or_else(
                || text(Line::ExpiryUnknown),
                |(name, date, days)| text(Line::Expires { name: name.clone(), days: *days, date: date.clone() }),
            ));
            lines
        },
    );
    if unwell.is_empty() {
        return Ok(());
    }
    let nothing_runs = !containers.iter().any(|container| container.status == "running");
    Err(place.voice.problem(if nothing_runs { Problem::NotRunning } else { Problem::Unwell { services: unwell.join(", ") } }))
}

/// Prints what services say.
pub fn logs(arguments: &Arguments, logs: &Logs, context: &Context<'_>) -> Answer {
    let place = Place::find(arguments, context)?;
    if let Some(name) = &logs.service
        && place.manifest.service(name).is_none()
    {
        let known = place.manifest.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join(", ");
        let name = name.chars().take(80).collect();
        return Err(place.voice.problem(Problem::UnknownService { name, known }));
    }
    let machine = Machine::find(arguments, &place, context)?;
    let lines = logs.lines.to_string();
    let mut words = vec!["logs", "--no-color", "--tail", &lines];
    if logs.follow {
        words.push("--follow");
    }
    words.extend(logs.service.as_deref());
    let mut heard: Vec<serde_json::Value> = Vec::new();
    let status = machine.deployment.lines("compose logs", &words, &mut |line| {
        // Compose writes `SERVICE-1  | words`, or `SERVICE_1 | words`.
        match line.split_once('|').filter(|_| context.json) {
            Some((name, words)) => {
                let line = json!({"container": name.trim(), "line": words.strip_prefix(' ').unwrap_or(words)});
                if logs.follow { context.screen.document(&line) } else { heard.push(line) }
            }
            None if context.json => {}
            None => context.screen.say(line),
        }
    });
    let status = status.map_err(|error| place.voice.engine(error))?;
    if context.json && !logs.follow {
        context.screen.document(&json!({ "lines": heard }));
    }
    if status.success() { Ok(()) } else { Err(place.voice.problem(Problem::NotRunning)) }
}

/// Prints the password of the first log-in, and nothing else.
pub fn password(arguments: &Arguments, context: &Context<'_>) -> Answer {
    let place = Place::find(arguments, context)?;
    let login = place.manifest.login.clone().ok_or_else(|| place.voice.problem(Problem::NoPassword))?;
    let machine = Machine::find(arguments, &place, context)?;
    let volumes = machine.engine.volumes().map_err(|error| place.voice.engine(error))?;
    // Without this, compose would make empty volumes just to find no password in them.
    if !place.volumes().iter().any(|name| volumes.contains(name)) {
        return Err(place.voice.problem(Problem::NoData));
    }
    let password = read_password(&machine, login.service.as_str(), &login.command, place.voice)?;
    context.answer(
        || json!({"user": place.filled(&login.user), "password": password, "url": place.filled(&login.url)}),
        || vec![password.clone()],
    );
    Ok(())
}

/// Returns whether everything runs that a program of this service needs.
pub fn can_work(place: &Place, machine: &Machine, service: &str) -> Result<bool, crate::failure::Failure> {
    let containers = machine.containers()?;
    let stays = |name: &&str| {
        place
            .manifest
            .service(name)
            .is_some_and(|service| service.kind == ServiceKind::Service && service.when != Some(When::Manual))
    };
    let needed: Vec<&str> = place.manifest.needed(service).into_iter().filter(stays).collect();
    let well =
        |name: &&str| containers.iter().any(|container| container.service == **name && !container.one_off && container.is_well());
    Ok(needed.iter().all(well) && (!needed.is_empty() || all_well(place, &containers)))
}

/// Says how long ago something was, in the largest unit that fits.
fn ago(since: &str, now: i64, day: char) -> Option<String> {
    let since = since.parse::<jiff::Timestamp>().ok()?.as_second();
    let seconds = now.saturating_sub(since).max(0);
    Some(match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} {day}", seconds / 86_400),
    })
}

/// Returns the whole days from now until a day ends.
fn days_until(date: &str, now: i64) -> Option<i64> {
    let date = date.parse::<jiff::civil::Date>().ok()?;
    let end = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    Some((end - now).div_euclid(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_told_in_the_largest_unit() {
        let now = "2026-11-24T12:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second();
        for (since, said) in [
            ("2026-11-24T11:59:30.5Z", Some("30 s")),
            ("2026-11-24T11:00:00Z", Some("60 min")),
            ("2026-11-24T07:00:00+01:00", Some("6 h")),
            ("2026-11-01T00:00:00Z", Some("23 d")),
            ("2027-11-01T00:00:00Z", Some("0 s")),
            ("0001-01-01", None),
        ] {
            assert_eq!(ago(since, now, 'd').as_deref(), said, "{since}");
        }
        assert_eq!(days_until("2026-12-24", now), Some(29));
        assert_eq!(days_until("2026-11-20", now), Some(-5));
    }
}
