//! `--chmod`: an octal number, or the symbolic form of chmod(1).

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// These bits.
    Set(u32),
    /// These clauses, in order.
    Symbolic(Vec<Clause>),
}

/// One clause of the symbolic form, `ug+rwX`.
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
                .fold(mode, |mode, clause| clause.apply(mode, is_dir)),
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
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if who == 0 {
        who = 0o7777;
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
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = 0;
        for letter in self.permissions.chars() {
            bits |= match letter {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => spread(mode >> 6),
                'g' => spread(mode >> 3),
                'o' => spread(mode),
                _ => 0,
            };
        }
        bits &= self.who;
        match self.action {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => mode & !(self.who & 0o777) | bits,
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

    /// Expected values are those of chmod(1) of GNU coreutils with umask 0.
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
