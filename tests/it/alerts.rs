//! The alert rules of the chart over a real Prometheus and real processes: one fires when what it speaks of has happened, says where to
//! read on, and ends when it is over.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use serde_json::Value as Json;
use waypost_tests::process::free_port;

use crate::{
    http::Request,
    metrics::Felled,
    shop::{ROLES, Shop},
    stack::{alone_on_empty_servers, eventually, root},
};

/// A Prometheus of its own, with the chart's rules.
struct Prometheus {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

// === impl Prometheus ===

impl Prometheus {
    /// Asks every role of a shop once a second. None where there is no `prometheus` on this machine.
    fn beside(shop: &Shop) -> Option<Self> {
        let known = Command::new("prometheus").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        known.is_ok_and(|status| status.success()).then_some(())?;
        let folder = tempfile::tempdir().unwrap();
        let rules = fs::read_to_string(root().join("helm/waypost/files/alerts.yaml")).unwrap();
        // A test does not wait for minutes: how long is for `promtool test rules`.
        let quick = |line: &str| match line.split_once(':') {
            Some((name, _)) if matches!(name.trim(), "for" | "interval") => format!("{name}: 1s"),
            _ => line.to_owned(),
        };
        let rules: Vec<_> = rules.lines().map(quick).collect();
        fs::write(folder.path().join("alerts.yaml"), rules.join("\n")).unwrap();
        let targets: Vec<_> = ROLES.iter().map(|role| format!("{:?}", shop.admin_address(role))).collect();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yaml]\nscrape_configs:\n  - job_name: waypost\n    \
             static_configs:\n      - targets: [{}]\n        labels: {{namespace: here}}\n",
            targets.join(", ")
        );
        fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let port = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { child, port, _folder: folder })
    }

    /// What it answers; nothing while it is not up.
    fn ask(&self, path: &str) -> Option<Json> {
        let answer = Request::get(path).send(self.port).ok().filter(|answer| answer.status == 200)?;
        Some(answer.json()["data"].clone())
    }

    /// The alerts that fire.
    fn firing(&self) -> Option<Vec<Json>> {
        let alerts = self.ask("/api/v1/alerts")?["alerts"].as_array()?.clone();
        Some(alerts.into_iter().filter(|alert| alert["state"] == "firing").collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn called<'a>(alerts: &'a [Json], name: &str) -> Option<&'a Json> {
    alerts.iter().find(|alert| alert["labels"]["alertname"] == name)
}

#[test]
fn a_broker_that_is_away_is_an_alert_until_it_is_back() {
    let alone = alone_on_empty_servers("alerts");
    let Some(prometheus) = Prometheus::beside(&alone.shop) else {
        println!("skipped: there is no prometheus here (`deploy/local/stack.sh promtool` gets it where it may)");
        return;
    };
    eventually("every role to be asked", || {
        let targets = prometheus.ask("/api/v1/targets?state=active")?["activeTargets"].as_array()?.clone();
        (targets.len() == ROLES.len() && targets.iter().all(|target| target["health"] == "up")).then_some(())
    });
    eventually("the rules to be judged", || {
        let groups = prometheus.ask("/api/v1/rules?type=alert")?["groups"].as_array()?.clone();
        let mut rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
        rules.all(|rule| rule["health"] == "ok").then_some(())
    });
    assert!(called(&prometheus.firing().unwrap(), "WaypostKafkaDown").is_none(), "all is well");

    let felled = Felled::new("kafka");
    let alert = eventually("the alert", || called(&prometheus.firing()?, "WaypostKafkaDown").cloned());
    assert_eq!((&alert["labels"]["severity"], &alert["labels"]["namespace"]), (&Json::from("page"), &Json::from("here")));
    let page = alert["annotations"]["runbook_url"].as_str().unwrap().rsplit_once("/docs/").unwrap().1;
    assert!(root().join("docs").join(page).is_file(), "{page}");

    drop(felled);
    eventually("the alert's end", || called(&prometheus.firing()?, "WaypostKafkaDown").is_none().then_some(()));
}
