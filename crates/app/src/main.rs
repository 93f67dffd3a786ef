#[cfg_attr(not(test), expect(dead_code, reason = "wired by `waypost dev`"))]
mod dev_registry;

fn main() {}
