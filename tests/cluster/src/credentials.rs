//! Keys, certificates, tokens, and the kubeconfig that carries them.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use crate::error::{AtPath, Error};
use crate::layout::{
    ADMIN_CONTEXT, ADMIN_CONTEXT_ALIAS, API_SERVER, API_SERVICE_IP, Layout, NODE_IP, NODE_NAME,
    PULL_ONLY, PUSH_AND_PULL, TLS_REGISTRY_HOST, VIEWER_CONTEXT, WEAK_CONTEXT,
};

/// A user of the API server: name, fixed token, group.
struct ApiUser {
    name: &'static str,
    token: &'static str,
    group: &'static str,
    contexts: &'static [&'static str],
}

/// The tokens are no secrets: nothing outside the cluster's network can use them.
const API_USERS: [ApiUser; 3] = [
    ApiUser {
        name: "admin",
        token: "admin-token",
        group: "system:masters",
        contexts: &[ADMIN_CONTEXT, ADMIN_CONTEXT_ALIAS],
    },
    ApiUser {
        name: "viewer",
        token: "viewer-token",
        group: "kiln-test",
        contexts: &[VIEWER_CONTEXT],
    },
    ApiUser {
        name: "weak",
        token: "weak-token",
        group: "kiln-test",
        contexts: &[WEAK_CONTEXT],
    },
];

/// Writes all keys, certificates, user lists and the kubeconfig of a new cluster.
pub(crate) fn write(layout: &Layout) -> Result<(), Error> {
    let folder = layout.pki("");
    fs::create_dir_all(&folder).at("create", &folder)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name("kiln test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?.pem();
    let ca = Issuer::new(params, key);
    store(layout, "ca.crt", &certificate)?;

    let api_names = [
        "localhost",
        NODE_NAME,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        NODE_IP,
        API_SERVICE_IP,
    ];
    server(layout, "apiserver", &api_names, &ca)?;
    let registry_names = [TLS_REGISTRY_HOST, "localhost", "127.0.0.1", NODE_IP];
    server(layout, "registry", &registry_names, &ca)?;

    let accounts = KeyPair::generate()?;
    store(layout, "service-accounts.key", &accounts.serialize_pem())?;
    store(layout, "service-accounts.pub", &accounts.public_key_pem())?;

    let tokens: String = API_USERS
        .iter()
        .map(|user| {
            format!(
                "{},{},{},\"{}\"\n",
                user.token, user.name, user.name, user.group
            )
        })
        .collect();
    store(layout, "tokens.csv", &tokens)?;
    let users: String = [PUSH_AND_PULL, PULL_ONLY]
        .iter()
        .map(|user| {
            format!(
                "{} {} {}\n",
                user.name,
                user.password,
                user.actions.join(",")
            )
        })
        .collect();
    store(layout, "registry-users", &users)?;

    let kubeconfig = kubeconfig(&certificate);
    let path = layout.kubeconfig();
    fs::write(&path, kubeconfig).at("write", &path)
}

fn server(
    layout: &Layout,
    file: &str,
    names: &[&str],
    ca: &Issuer<'_, KeyPair>,
) -> Result<(), Error> {
    let key = KeyPair::generate()?;
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = name(file);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, ca)?;
    store(layout, &format!("{file}.crt"), &certificate.pem())?;
    store(layout, &format!("{file}.key"), &key.serialize_pem())
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn store(layout: &Layout, file: &str, content: &str) -> Result<(), Error> {
    let path = layout.pki(file);
    fs::write(&path, content).at("write", &path)
}

/// JSON is YAML, so every reader of kubeconfigs takes it.
fn kubeconfig(ca: &str) -> String {
    let contexts: Vec<_> = API_USERS
        .iter()
        .flat_map(|user| user.contexts.iter().map(move |context| (user, context)))
        .map(|(user, context)| {
            json!({"name": context, "context": {"cluster": ADMIN_CONTEXT, "user": user.name}})
        })
        .collect();
    let users: Vec<_> = API_USERS
        .iter()
        .map(|user| json!({"name": user.name, "user": {"token": user.token}}))
        .collect();
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": ADMIN_CONTEXT,
        "clusters": [{"name": ADMIN_CONTEXT, "cluster": {
            "server": API_SERVER,
            "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "contexts": contexts,
        "users": users,
    });
    format!("{config:#}\n")
}
