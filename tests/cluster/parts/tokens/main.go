// Command tokens is the TLS front of the test registry: it terminates TLS, is the
// token server of the distribution token authentication specification at /token,
// and hands everything else to the registry behind it, which verifies the tokens.
package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// user is one line of the users file: name, password, and the actions that the
// user may perform on every repository.
type user struct {
	password string
	actions  []string
}

// access is one entry of a token's "access" claim.
type access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type server struct {
	users       map[string]user
	certificate tls.Certificate
	issuer      string
	lifetime    time.Duration
}

func main() {
	listen := flag.String("listen", "", "address to serve TLS on")
	backend := flag.String("backend", "", "URL of the registry behind this front")
	cert := flag.String("cert", "", "certificate file, also the token signer's")
	key := flag.String("key", "", "ECDSA P-256 key file")
	users := flag.String("users", "", "file with one 'name password action,action' per line")
	issuer := flag.String("issuer", "", "issuer of the tokens")
	lifetime := flag.Duration("lifetime", 5*time.Minute, "how long a token is valid")
	flag.Parse()
	if err := run(*listen, *backend, *cert, *key, *users, *issuer, *lifetime); err != nil {
		log.Fatal(err)
	}
}

func run(listen, backend, cert, key, users, issuer string, lifetime time.Duration) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	target, err := url.Parse(backend)
	if err != nil {
		return err
	}
	list, err := readUsers(users)
	if err != nil {
		return err
	}
	s := &server{users: list, certificate: pair, issuer: issuer, lifetime: lifetime}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		// The registry names the token server by the host that the client used.
		r.Out.Host = r.In.Host
		r.Out.Header.Set("X-Forwarded-Proto", "https")
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token", s.token)
	mux.Handle("/v2/", proxy)
	front := &http.Server{Addr: listen, Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}
	return front.ListenAndServeTLS("", "")
}

func readUsers(path string) (map[string]user, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	users := map[string]user{}
	for number, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s:%d: want 'name password action,action'", path, number+1)
		}
		users[fields[0]] = user{password: fields[1], actions: strings.Split(fields[2], ",")}
	}
	return users, nil
}

// token answers a token request: wrong credentials are refused, no credentials
// get a token that allows nothing (as on public registries).
func (s *server) token(w http.ResponseWriter, r *http.Request) {
	name, password, given := r.BasicAuth()
	account, known := s.users[name]
	if given && (!known || subtle.ConstantTimeCompare([]byte(password), []byte(account.password)) != 1) {
		log.Printf("refused %q from %s", name, r.RemoteAddr)
		w.Header().Set("WWW-Authenticate", `Basic realm="kiln test registry"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintln(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
		return
	}
	query := r.URL.Query()
	granted := grant(query["scope"], account.actions)
	signed, err := s.sign(name, query.Get("service"), granted)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	log.Printf("token for %q: %v", name, granted)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"token": signed, "access_token": signed,
		"expires_in": int(s.lifetime.Seconds()), "issued_at": time.Now().UTC().Format(time.RFC3339),
	})
}

// grant is the intersection of what was asked for and what the user may do.
// Scopes are "type:name:action,action"; a name may hold colons (a port).
func grant(scopes, allowed []string) []access {
	granted := []access{}
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		at := strings.LastIndex(rest, ":")
		if kind != "repository" || at < 0 {
			continue
		}
		actions := slices.DeleteFunc(strings.Split(rest[at+1:], ","), func(action string) bool {
			return !slices.Contains(allowed, action)
		})
		granted = append(granted, access{Type: kind, Name: rest[:at], Actions: actions})
	}
	return granted
}

// sign makes an ES256 JWT whose header carries the signer's certificate chain.
func (s *server) sign(subject, audience string, granted []access) (string, error) {
	private, ok := s.certificate.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return "", errors.New("the key is not an ECDSA key")
	}
	var chain []string
	for _, der := range s.certificate.Certificate {
		chain = append(chain, base64.StdEncoding.EncodeToString(der))
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return "", err
	}
	now := time.Now()
	header, err := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": chain})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": s.issuer, "sub": subject, "aud": audience, "jti": base64.RawURLEncoding.EncodeToString(id),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(s.lifetime).Unix(), "access": granted,
	})
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	message := encode(header) + "." + encode(claims)
	sum := sha256.Sum256([]byte(message))
	r, v, err := ecdsa.Sign(rand.Reader, private, sum[:])
	if err != nil {
		return "", err
	}
	// RFC 7518, 3.4: both halves as 32 octets, big endian.
	signature := append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	return message + "." + encode(signature), nil
}
