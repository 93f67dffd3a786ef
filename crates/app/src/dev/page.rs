//! What `waypost dev` serves beside the doors: the caught mail as a page, and the schema registry.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};

use super::world::Mailbox;

/// Routes under `/mail`.
pub(crate) fn router(mail: Arc<Mailbox>) -> Router {
    Router::new().route("/mail", get(list)).route("/mail/{number}", get(message)).with_state(mail)
}

async fn list(State(mail): State<Arc<Mailbox>>) -> Response {
    let list = mail.catcher().list();
    let rows = list.iter().rev().take(1000).map(|caught| {
        let (at, to, subject) = (escape(&caught.at), escape(&caught.to), escape(&caught.subject));
        format!("<tr><td>{n}<td>{at}<td>{to}<td><a href=\"/mail/{n}\">{subject}</a>", n = caught.number)
    });
    let rows: String = rows.collect();
    let page = format!(
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5><title>Waypost: caught mail</title>\
         <style>body{{font:16px system-ui;margin:2rem}}td{{padding:.2rem .8rem .2rem 0}}</style>\
         <h1>Caught mail</h1><p>Nothing here went to anybody. Newest first.<table>{rows}</table>"
    );
    Html(page).into_response()
}

async fn message(State(mail): State<Arc<Mailbox>>, Path(number): Path<u64>) -> Response {
    match mail.catcher().html(number) {
        // The message is shown as its reader would see it, without the right to run anything.
        Some(html) => {
            ([(header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src https:")], Html(html))
                .into_response()
        }
        None => (StatusCode::NOT_FOUND, "no such message\n").into_response(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
