//! The settings of `deploy/compose.yaml` run the whole: every role is ready, and a mail goes out. Only addresses are this machine's.

use serde_json::json;

use crate::{
    shop::ROLES,
    stack::{beside, root},
};

#[test]
fn the_settings_of_compose_run_every_role() {
    let file = |name: &str| root().join("deploy/config").join(name).canonicalize().unwrap().display().to_string();
    let set = |name: &str, value: String| (format!("WAYPOST_{name}"), value);
    let settings = vec![
        set("CONFIG", file("waypost.toml")),
        set("CONTROL_ACCESS_FILE", file("access.toml")),
        set("SECRETS_LINK_KEY_FILE", file("link-key.development")),
        // for waypostctl, as the service `ctl` has it
        set("TOKEN", "waypost-development-token".to_owned()),
    ];
    let beside = beside("compose", settings);
    let shop = &beside.shop;
    for role in ROLES {
        shop.until(&format!("{role} to be ready"), || (shop.admin(role, "/readyz").status == 200).then_some(()));
        // `log.format`
        let log = shop.log(role);
        assert!(log.lines().all(|line| line.starts_with('{')), "{role}: {log}");
    }
    let address = shop.person("composed");
    shop.track(&json!({"userId": "composed"}), "Signed Up", json!({}));
    shop.mail(&address, "greet Ann");
}
