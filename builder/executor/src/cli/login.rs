//! `executor login`: puts credentials into docker's configuration, where the next build finds them.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_registry::reference::{DOCKER_HUB, canonical_registry};
use serde_json::{Value, json};

use super::Env;
use super::args::Args;
use super::error::CliError;
use super::flags::{Effect, Flag, Kind};

const USAGE: &str = "executor login REGISTRY -u USER -p PASSWORD|--password-stdin";
/// The key under which docker keeps the credentials of its own registry.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

const fn flag(name: &'static str, short: Option<char>, kind: Kind) -> Flag {
    Flag {
        name,
        short,
        kind,
        effect: Effect::Works,
        help: "",
    }
}

static FLAGS: [Flag; 3] = [
    flag("username", Some('u'), Kind::One),
    flag("password", Some('p'), Kind::One),
    flag("password-stdin", None, Kind::Switch(false)),
];

/// Writes `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`; what else is in it stays.
pub(super) fn login(
    words: &[String],
    env: &Env,
    input: &mut (dyn Read + Send),
    log: &mut dyn Write,
) -> Result<(), CliError> {
    let (names, flags) = split(words);
    let args = Args::parse(&flags, &FLAGS)?;
    let ([registry], Some(username)) = (names.as_slice(), args.one("username")) else {
        return Err(CliError::Usage(USAGE));
    };
    let password = match (args.one("password"), args.is_on("password-stdin")) {
        (Some(password), false) => password.to_owned(),
        (None, true) => from(input)?,
        _ => return Err(CliError::Usage(USAGE)),
    };
    let path = configuration(env).ok_or(CliError::Usage(
        "executor login needs DOCKER_CONFIG or HOME to be set",
    ))?;
    let document = read(&path)?;
    let document = with_login(document, registry, (username, &password));
    write(&path, &document).map_err(|source| CliError::Write {
        path: path.clone(),
        source,
    })?;
    writeln!(log, "logged in via {}", path.display()).map_err(CliError::Output)
}

/// Words without a dash that are no flag's value, and those after `--`; and the rest.
pub(super) fn split(words: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut names, mut flags) = (Vec::new(), Vec::new());
    let mut value_follows = false;
    for (index, word) in words.iter().enumerate() {
        if word == "--" && !value_follows {
            names.extend_from_slice(&words[index + 1..]);
            break;
        }
        if value_follows || word.starts_with('-') {
            // `-dVALUE`
            let has_value = word.contains('=') || (!word.starts_with("--") && word.len() > 2);
            let takes_value = !has_value && !is_switch(word);
            value_follows = !value_follows && takes_value;
            flags.push(word.clone());
        } else {
            names.push(word.clone());
        }
    }
    (names, flags)
}

fn is_switch(word: &str) -> bool {
    let name = word.trim_start_matches('-');
    FLAGS
        .iter()
        .chain(super::flags::FLAGS.iter())
        .any(|flag| flag.name == name && matches!(flag.kind, Kind::Switch(_)))
}

fn from(input: &mut dyn Read) -> Result<String, CliError> {
    let mut text = String::new();
    input
        .read_to_string(&mut text)
        .map_err(|source| CliError::Read {
            what: "the password from",
            path: PathBuf::from("standard input"),
            source,
        })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn configuration(env: &Env) -> Option<PathBuf> {
    let named = env.get("DOCKER_CONFIG").filter(|dir| !dir.is_empty());
    let home = || env.get("HOME").map(|home| Path::new(home).join(".docker"));
    let dir = named.map(PathBuf::from).or_else(home)?;
    Some(dir.join("config.json"))
}

fn read(path: &Path) -> Result<Value, CliError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(json!({})),
        Err(source) => {
            return Err(CliError::Read {
                what: "the credentials in",
                path: path.to_owned(),
                source,
            });
        }
    };
    if text.trim().is_empty() {
        return Ok(json!({}));
    }
    let invalid = |why: &str| CliError::Read {
        what: "the credentials in",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, why.to_owned()),
    };
    // serde's own message may quote a secret.
    let value: Value = serde_json::from_str(&text).map_err(|_| invalid("it is not JSON"))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(invalid("it is not an object"))
    }
}

fn with_login(mut document: Value, registry: &str, (username, password): (&str, &str)) -> Value {
    let bare = registry
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let host = canonical_registry(bare.split('/').next().unwrap_or(bare));
    let key = if host == DOCKER_HUB {
        DOCKER_HUB_KEY
    } else {
        host.as_str()
    };
    let auth = STANDARD.encode(format!("{username}:{password}"));
    if !document["auths"].is_object() {
        document["auths"] = json!({});
    }
    document["auths"][key] = json!({"auth": auth});
    document
}

/// Nobody but us may read it. A file that is mounted cannot be replaced: it is written in place then.
fn write(path: &Path, document: &Value) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(document)?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let aside = path.with_extension("json.new");
    let written = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&aside, path));
    match written {
        Ok(()) => Ok(()),
        Err(_) => {
            let _ = fs::remove_file(&aside);
            fs::write(path, &text)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str], dir: &Path, input: &str) -> Result<Value, CliError> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let env = Env::from([("DOCKER_CONFIG".to_owned(), dir.display().to_string())]);
        login(&words, &env, &mut input.as_bytes(), &mut Vec::new())?;
        let text = fs::read(dir.join("config.json")).unwrap();
        Ok(serde_json::from_slice(&text).unwrap())
    }

    #[test]
    fn what_docker_reads_is_written_and_the_rest_stays() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(
            &path,
            r#"{"credHelpers": {"gcr.io": "gcr"}, "auths": {"a": {"auth": "x"}}}"#,
        )
        .unwrap();
        let found = run(
            &["registry.example.com:5000", "-u", "me", "-p", "pw"],
            dir.path(),
            "",
        )
        .unwrap();
        // echo -n me:pw | base64
        let expected = json!({"credHelpers": {"gcr.io": "gcr"},
            "auths": {"a": {"auth": "x"}, "registry.example.com:5000": {"auth": "bWU6cHc="}}});
        assert_eq!(found, expected);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn docker_hub_has_a_key_of_its_own_and_the_password_may_come_from_elsewhere() {
        for name in [
            "docker.io",
            "index.docker.io",
            "https://index.docker.io/v1/",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let words = ["--username=me", "--password-stdin", name];
            let found = run(&words, dir.path(), "pw\n").unwrap();
            assert_eq!(
                found,
                json!({"auths": {DOCKER_HUB_KEY: {"auth": "bWU6cHc="}}}),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let dir = tempfile::tempdir().unwrap();
        for words in [
            &["-u", "me", "-p", "pw"][..],
            &["host"],
            &["host", "-u", "me"],
        ] {
            let error = run(words, dir.path(), "").unwrap_err().to_string();
            assert!(error.contains("executor login REGISTRY"), "{error}");
        }
    }
}
