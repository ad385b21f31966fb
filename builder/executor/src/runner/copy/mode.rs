//! `--chmod`: an octal number, or the symbolic form of BSD's setmode(3), which BuildKit follows.
//!
//! It differs from chmod(1) of GNU: `X` asks for the mode that the file had at first, `=` clears
//! the set-id bits too, and `t` is a letter of whoever is named, and of nobody else in its clause.

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// These bits.
    Set(u32),
    /// These clauses, in order.
    Symbolic(Vec<Clause>),
}

/// The bits of owner, group and others.
const ALL: u32 = 0o6777;
/// The sticky bit, which is nobody's.
const STICKY: u32 = 0o1000;

/// One clause of the symbolic form, `ug+rwX`. `who` is 0 where nobody is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    who: u32,
    action: char,
    permissions: String,
}

impl ModeChange {
    /// Reads the argument. `None` when it has neither form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return u32::from_str_radix(text, 8)
                .ok()
                .filter(|mode| *mode <= 0o7777)
                .map(Self::Set);
        }
        text.split(',')
            .map(clauses)
            .collect::<Option<Vec<_>>>()
            .map(|all| Self::Symbolic(all.concat()))
    }

    /// The bits of a file that has `mode` now.
    pub(crate) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Set(mode) => *mode,
            Self::Symbolic(clauses) => clauses
                .iter()
                .fold(mode, |now, clause| clause.apply(now, (mode, is_dir))),
        }
    }
}

/// `u=rw+x` is two clauses for the same classes.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let start = text.find(['+', '-', '='])?;
    let mut who = 0;
    for class in text[..start].chars() {
        who |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o7,
            'a' => ALL,
            _ => return None,
        };
    }
    let mut found = Vec::new();
    let mut rest = &text[start..];
    while let Some(action) = rest.chars().next() {
        let end = rest[1..]
            .find(['+', '-', '='])
            .map_or(rest.len(), |at| at + 1);
        let permissions = &rest[1..end];
        if !permissions
            .chars()
            .all(|letter| "rwxXstugo".contains(letter))
        {
            return None;
        }
        found.push(Clause {
            who,
            action,
            permissions: permissions.to_owned(),
        });
        rest = &rest[end..];
    }
    Some(found)
}

impl Clause {
    fn apply(&self, now: u32, (before, is_dir): (u32, bool)) -> u32 {
        // Others alone have neither set-id bits nor a sticky one.
        let is_special = self.who == 0 || self.who & !0o7 != 0;
        let sticky = is_special && self.permissions.contains('t');
        let who = match (self.who, sticky) {
            (0, true) => STICKY,
            (0, false) => ALL,
            (who, true) => who | STICKY,
            (who, false) => who,
        };
        let copies = self.permissions.contains(['u', 'g', 'o']);
        let mut bits = 0;
        for letter in self.permissions.chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if self.action == '-' || is_dir || before & 0o111 != 0 => 0o111,
                's' if is_special => 0o6000,
                't' if is_special => STICKY,
                'u' => spread(now >> 6),
                'g' => spread(now >> 3),
                'o' => spread(now),
                _ => 0,
            };
        }
        bits &= who;
        match self.action {
            '+' => now | bits,
            '-' => now & !bits,
            // What is copied from another class leaves the set-id bits alone.
            _ if copies => now & !(who & 0o777) | bits,
            _ => now & !who | bits,
        }
    }
}

/// The lowest three bits for all three classes.
fn spread(bits: u32) -> u32 {
    (bits & 7) * 0o111
}

#[cfg(test)]
mod tests {
    use super::ModeChange;

    /// Expected values are those of chmod(1) of BSD with umask 0; where GNU differs, BuildKit's.
    #[test]
    fn as_chmod_does() {
        for (text, mode, is_dir, expected) in [
            ("755", 0o600, false, 0o755),
            ("0644", 0o777, true, 0o644),
            ("4755", 0o600, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("go-w", 0o666, false, 0o644),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o644, true, 0o755),
            ("a+X", 0o744, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o600, false, 0o711),
            ("u+s", 0o755, false, 0o4755),
            ("g=u", 0o741, false, 0o771),
            ("o=", 0o777, false, 0o770),
            ("u=rw+x", 0o000, false, 0o700),
            ("a-x,a+X", 0o755, false, 0o755),
            ("a-x+X", 0o755, false, 0o755),
            ("a-x,a+X", 0o644, false, 0o644),
            ("u=rw,go=r,a+X", 0o755, false, 0o755),
            ("u=rwx,go=rx", 0o6755, false, 0o755),
            ("u+t", 0o644, false, 0o1644),
            ("o+t", 0o644, false, 0o644),
            ("u+rwx,g+rs,o+t", 0o644, false, 0o2744),
        ] {
            let change = ModeChange::parse(text).unwrap();
            assert_eq!(change.apply(mode, is_dir), expected, "{text} on {mode:o}");
        }
    }

    #[test]
    fn what_has_neither_form() {
        for text in ["", "9", "77777", "rwx", "u~x", "z+x", "u+q"] {
            assert_eq!(ModeChange::parse(text), None, "{text}");
        }
    }
}
