//! Golden files: what a step printed when a person last looked at it.

use std::fs;
use std::path::Path;

/// Compares a text with a golden file. With `FAIRLEAD_BLESS=1` in the environment the file becomes the text.
pub fn check(path: &Path, text: &str) -> Result<(), String> {
    let blessed = fs::read_to_string(path);
    if std::env::var_os("FAIRLEAD_BLESS").is_some_and(|value| value == "1") {
        return match blessed {
            Ok(blessed) if blessed == text => Ok(()),
            Ok(_) | Err(_) => fs::write(path, text).map_err(|error| format!("{}: {error}", path.display())),
        };
    }
    match blessed {
        Ok(blessed) if blessed == text => Ok(()),
        Ok(blessed) => Err(format!("{}:{}", path.display(), difference(&blessed, text))),
        Err(error) => {
            Err(format!("{}: {error}; bless it with FAIRLEAD_BLESS=1, then review it", path.display()))
        }
    }
}

/// The first line that differs, and a few around it: `-` blessed, `+` now.
fn difference(blessed: &str, now: &str) -> String {
    const AROUND: usize = 3;
    let (blessed, now): (Vec<&str>, Vec<&str>) = (blessed.lines().collect(), now.lines().collect());
    let same = blessed.iter().zip(&now).take_while(|(one, other)| one == other).count();
    let shown = |lines: &[&str], sign: &str| -> String {
        lines.iter().map(|line| format!("\n  {sign} {line}")).collect::<Vec<_>>().concat()
    };
    let before = shown(&blessed[same.saturating_sub(AROUND)..same], " ");
    let (was, is) = (
        shown(&blessed[same..blessed.len().min(same + 2 * AROUND)], "-"),
        shown(&now[same..now.len().min(same + 2 * AROUND)], "+"),
    );
    format!("{}: differs from what was blessed{before}{was}{is}", same + 1)
}
