//! A screen that is drawn again and again until somebody has seen enough.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use rustix::{
    stdio,
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

/// Keys are looked for this often.
const GLANCE: Duration = Duration::from_millis(100);
/// `q`, `Q`, `^C` and `^D` end it.
const ENDS: &[u8] = b"qQ\x03\x04";
/// Of a terminal that does not say how large it is.
const USUAL: (usize, usize) = (80, 24);

/// Where screens go.
pub(crate) trait Screen {
    /// Puts a text in the place of the one before.
    fn draw(&mut self, text: &str);
    /// Waits so long; false: it is to end.
    async fn rest(&mut self, time: Duration) -> bool;
}

/// Standard output: a terminal, or whatever takes one text after another.
#[derive(Debug)]
pub(crate) struct Out {
    /// Modes of the keyboard as they were; none where there is none.
    before: Option<Termios>,
    is_terminal: bool,
    terminated: Option<Signal>,
}

/// Takes the terminal, if there is one.
pub(crate) fn open() -> Out {
    let is_terminal = std::io::stdout().is_terminal();
    let before = if is_terminal { quiet() } else { None };
    if is_terminal {
        // a screen of its own, without a cursor
        write("\u{1b}[?1049h\u{1b}[?25l");
    }
    Out { before, is_terminal, terminated: signal(SignalKind::terminate()).ok() }
}

/// Keys come at once, are not shown, and interrupt nothing; the modes before.
fn quiet() -> Option<Termios> {
    let before = tcgetattr(stdio::stdin()).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
    quiet.special_codes[SpecialCodeIndex::VMIN] = 0;
    quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(stdio::stdin(), OptionalActions::Now, &quiet).ok()?;
    Some(before)
}

fn write(text: &str) {
    let mut out = std::io::stdout();
    // A terminal that has gone ends this by a signal.
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap_or_default();
}

// === impl Out ===

impl Drop for Out {
    fn drop(&mut self) {
        if self.is_terminal {
            write("\u{1b}[?25h\u{1b}[?1049l");
        }
        if let Some(before) = &self.before {
            // A terminal that has gone needs no modes.
            tcsetattr(stdio::stdin(), OptionalActions::Now, before).unwrap_or_default();
        }
    }
}

impl Out {
    /// Whether a key that ends it was pressed.
    fn is_over(&self) -> bool {
        let mut keys = [0_u8; 64];
        self.before.is_some()
            && rustix::io::read(stdio::stdin(), &mut keys).is_ok_and(|count| keys.iter().take(count).any(|key| ENDS.contains(key)))
    }
}

impl Screen for Out {
    fn draw(&mut self, text: &str) {
        if !self.is_terminal {
            write(&format!("{text}\n\n"));
            return;
        }
        let size = tcgetwinsize(stdio::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        let (columns, rows) = size.map_or(USUAL, |size| (size.ws_col.into(), size.ws_row.into()));
        let hint = if self.before.is_some() { "q ends it" } else { "^C ends it" };
        write(&framed(text, hint, columns, rows));
    }

    async fn rest(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let next = until.min(Instant::now() + GLANCE);
            match &mut self.terminated {
                Some(terminated) => tokio::select! {
                    () = sleep_until(next) => {}
                    _ = terminated.recv() => return false,
                },
                None => sleep_until(next).await,
            }
            if self.is_over() {
                return false;
            }
        }
        true
    }
}

/// The text from the top left corner on, no line longer and no more lines than fit: a line that were broken, or one too many,
/// would move everything.
fn framed(text: &str, hint: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = rows.saturating_sub(1);
    let mut shown: Vec<String> = lines.iter().take(room).map(|line| cut(line, columns)).collect();
    if lines.len() > room
        && let Some(last) = shown.last_mut()
    {
        *last = cut(&format!("… {} more lines", lines.len() - room + 1), columns);
    }
    shown.push(cut(hint, columns));
    format!("\u{1b}[H{}\u{1b}[K\u{1b}[J", shown.join("\u{1b}[K\r\n"))
}

fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    line.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_fits_whatever_terminal_there_is() {
        let wide = framed("one\ntwo", "q", 80, 24);
        assert_eq!(wide, "\u{1b}[Hone\u{1b}[K\r\ntwo\u{1b}[K\r\nq\u{1b}[K\u{1b}[J");
        let narrow = framed("a long line\n2\n3\n4", "q ends it", 6, 3);
        assert_eq!(narrow, "\u{1b}[Ha lon…\u{1b}[K\r\n… 3 m…\u{1b}[K\r\nq end…\u{1b}[K\u{1b}[J");
        assert_eq!(framed("x", "q", 1, 1), "\u{1b}[Hq\u{1b}[K\u{1b}[J");
    }
}
