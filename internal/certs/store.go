package certs

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// checkInterval is how often the files are looked at.
const checkInterval = 2 * time.Second

// expirySoon is how long before the end of a certificate a log line warns.
const expirySoon = 14 * 24 * time.Hour

// expiryPause is the time between two such lines.
const expiryPause = 12 * time.Hour

// refusalPause is the time between two log lines about nodes that are refused.
const refusalPause = time.Minute

// What may be logged of the end of certificates.
const (
	valid = iota
	early
	expiring
	expired
)

// Files are the files of a node, in PEM. CA may have several certificates: nodes with a certificate of any of them are
// trusted, so an authority can be replaced while the cluster runs.
type Files struct {
	Cert, Key, CA     string
	UserCert, UserKey string // what users see; "" for the certificate of the node
}

// Report says what certificates a node uses.
type Report struct {
	Identity Identity
	Serial   string    // of the certificate for nodes
	NotAfter time.Time // when the first of the certificates ends: of the node, of its authority, for users
	// UserSerial is that of the certificate for users; "" if users see the one for nodes.
	UserSerial string
	// Authorities are the fingerprints of those whose nodes are trusted.
	Authorities []string
	// Err is why the files, as they are now, are not used; nil if they are. Then those before them are still in use.
	Err error
	// Grace lists the other nodes whose certificates are out of their time, as far as they have called, or were called.
	Grace []Grace
}

// Store has the certificates of a node. Any goroutine may use it.
type Store struct {
	files   Files
	log     hclog.Logger
	current atomic.Pointer[bundle]
	graces  *graces

	mu    sync.Mutex // guards all below
	seen  []byte     // the content of all files when they were looked at last
	err   error
	whole bool // they were read

	reached  []Reached // where others reach this node
	refused  time.Time // of the last line about a node that was refused
	logged   int       // the last line about the end of the certificates
	loggedAt time.Time // when it was logged
}

// bundle is what one state of the files has.
type bundle struct {
	identity   Identity
	node, user tls.Certificate
	// authorities are those of CA, and pool the same.
	authorities []*x509.Certificate
	pool        *x509.CertPool
	notAfter    time.Time
}

// Open reads the files. The error names the file that is wrong. Other nodes whose certificates are out of their time
// are accepted for a grace, 0 for none.
func Open(files Files, grace time.Duration, log hclog.Logger) (*Store, error) {
	log = log.Named("tls")
	s := &Store{files: files, log: log, graces: newGraces(grace, log)}
	if err := s.look(); err != nil {
		return nil, err
	}
	return s, nil
}

// Reached is where others reach a node: the host of its URL, for example.
type Reached struct{ Host, Flag string }

// ReachedAt requires certificates for the hosts at which other nodes reach this one, now and when the files change.
// The error names the first host that the present one is not for.
func (s *Store) ReachedAt(list ...Reached) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached = list
	return s.checkHosts(s.current.Load())
}

// checkHosts returns an error if other nodes would not accept a certificate for the host at which they reach this one.
// The caller holds mu.
func (s *Store) checkHosts(b *bundle) error {
	for _, r := range s.reached {
		if b.node.Leaf.VerifyHostname(r.Host) != nil {
			return fmt.Errorf("%s is a certificate for %s, and others reach this node at %s (%s): issue one for that "+
				"host too ('chainstore ca issue … --host %s'), or set %s to a host that it has", s.files.Cert,
				cmp.Or(strings.Join(HostsOf(b.node.Leaf), ", "), "no host"), r.Host, r.Flag, r.Host, r.Flag)
		}
	}
	return nil
}

// Watch looks at the files from time to time, until ctx ends, and uses new ones. Wrong ones are not used.
func (s *Store) Watch(ctx context.Context) {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.Reload() // it is logged and reported
			s.mu.Lock()
			s.warnOfExpiry(s.current.Load())
			s.mu.Unlock()
		}
	}
}

// Reload looks at the files now, and uses them if they are good and not the ones in use. Otherwise it returns the
// error.
func (s *Store) Reload() error { return s.look() }

// Report says what is in use.
func (s *Store) Report() Report {
	b, grace := s.current.Load(), s.graces.list()
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{
		Identity: b.identity, Serial: SerialOf(b.node.Leaf), NotAfter: b.notAfter, Err: s.err, Grace: grace,
	}
	if s.files.UserCert != "" {
		r.UserSerial = SerialOf(b.user.Leaf)
	}
	for _, a := range b.authorities {
		r.Authorities = append(r.Authorities, FingerprintOf(a))
	}
	return r
}

// Certificate is the report for the leader of the masters.
func (s *Store) Certificate() *wire.Certificate {
	r := s.Report()
	c := &wire.Certificate{
		Identity: r.Identity.String(), Serial: r.Serial, UserSerial: r.UserSerial, NotAfter: millis(r.NotAfter),
		Authorities: r.Authorities[:min(len(r.Authorities), wire.MaxAuthorities)],
	}
	if r.Err != nil {
		c.Error = r.Err.Error()
	}
	for _, g := range r.Grace[:min(len(r.Grace), wire.MaxGraces)] {
		c.Graces = append(c.Graces, wire.Grace{
			Identity: g.Identity.String(), Serial: g.Serial,
			NotBefore: millis(g.NotBefore), NotAfter: millis(g.NotAfter), Left: uint64(g.Left / time.Second),
		})
	}
	return c
}

func millis(t time.Time) uint64 { return uint64(max(0, t.UnixMilli())) }

// Identity returns that of this node.
func (s *Store) Identity() Identity { return s.current.Load().identity }

// look reads the files if they are others than at the last look.
func (s *Store) look() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	content, err := s.files.read()
	if err != nil {
		s.whole = false
	}
	if err == nil && s.whole && bytes.Equal(content.all(), s.seen) {
		return s.err
	}
	var b *bundle
	if err == nil {
		s.seen, s.whole = content.all(), true
		b, err = content.parse(s.files)
	}
	if err == nil {
		err = s.checkHosts(b)
	}
	old := s.current.Load()
	if err != nil {
		if old != nil && (s.err == nil || s.err.Error() != err.Error()) {
			s.log.Error("new files of certificates are not used, the ones before them still are", "error", err)
		}
		s.err = err
		return err
	}
	if old != nil && old.identity != b.identity {
		s.err = fmt.Errorf("%s: it names %s, and this node is %s: start it again to change that", s.files.Cert,
			b.identity, old.identity)
		s.log.Error("new files of certificates are not used, the ones before them still are", "error", s.err)
		return s.err
	}
	s.err = nil
	s.current.Store(b)
	if old != nil {
		s.log.Info("new certificates are in use", "identity", b.identity, "not_after", b.notAfter)
	}
	s.warnOfExpiry(b)
	return nil
}

// warnOfExpiry logs that a certificate has expired, will soon, or is not valid yet: when that becomes so, and again
// after expiryPause. The caller holds mu.
func (s *Store) warnOfExpiry(b *bundle) {
	state := valid
	switch left := time.Until(b.notAfter); {
	case left < 0:
		state = expired
	case time.Until(b.node.Leaf.NotBefore) > 0:
		state = early
	case left < expirySoon:
		state = expiring
	}
	if state == valid || state == s.logged && time.Since(s.loggedAt) < expiryPause {
		return
	}
	s.logged, s.loggedAt = state, time.Now()
	end := stamp(b.notAfter)
	switch state {
	case early:
		s.log.Error("the certificate of this node is not valid yet, by this clock: others may accept it only for "+
			"a while (--tls-grace)", "identity", b.identity, "not_before", stamp(b.node.Leaf.NotBefore))
	case expired:
		s.log.Error("a certificate of this node has expired: users refuse it, and other nodes accept it only for a "+
			"while (--tls-grace)", "identity", b.identity, "not_after", end)
	case expiring:
		s.log.Warn("a certificate of this node expires soon", "identity", b.identity, "not_after", end)
	}
}

// warnOfRefusal logs that a client that says that it is a node was refused, at most once in refusalPause.
func (s *Store) warnOfRefusal(from net.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.refused.IsZero() || now.Sub(s.refused) >= refusalPause {
		s.refused = now
		s.log.Warn("a node is refused for its certificate", "from", from.String(), "error", err)
	}
}

// stamp is a time in a log line.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// contents are the bytes of the files.
type contents struct{ cert, key, ca, userCert, userKey []byte }

func (c *contents) all() []byte {
	return bytes.Join([][]byte{c.cert, c.key, c.ca, c.userCert, c.userKey}, []byte{0})
}

func (f *Files) read() (c contents, err error) {
	for _, file := range []struct {
		path   string
		to     *[]byte
		secret bool
	}{
		{f.Cert, &c.cert, false}, {f.Key, &c.key, true}, {f.CA, &c.ca, false},
		{f.UserCert, &c.userCert, false}, {f.UserKey, &c.userKey, true},
	} {
		if file.path == "" {
			continue
		}
		info, err := os.Stat(file.path)
		if err != nil {
			return c, err
		}
		if file.secret && info.Mode().Perm()&0o007 != 0 {
			return c, fmt.Errorf("%s: others than its owner and group may use this private key: chmod 600 %s",
				file.path, file.path)
		}
		if *file.to, err = os.ReadFile(file.path); err != nil {
			return c, err
		}
	}
	return c, nil
}

// parse checks the files as a whole.
func (c *contents) parse(f Files) (_ *bundle, err error) {
	b := &bundle{pool: x509.NewCertPool()}
	if b.authorities, err = ParseAll(c.ca); err != nil {
		return nil, fmt.Errorf("%s: %w", f.CA, err)
	}
	for _, a := range b.authorities {
		b.pool.AddCert(a)
	}
	if b.node, err = tls.X509KeyPair(c.cert, c.key); err != nil {
		return nil, fmt.Errorf("%s with %s: %w", f.Cert, f.Key, err)
	}
	if b.identity, err = IdentityOf(b.node.Leaf); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Cert, err)
	}
	if b.notAfter, err = b.verify(b.node); err != nil {
		return nil, fmt.Errorf("%s: no authority in %s signed it: %w", f.Cert, f.CA, err)
	}
	b.user = b.node
	if f.UserCert != "" {
		if b.user, err = tls.X509KeyPair(c.userCert, c.userKey); err != nil {
			return nil, fmt.Errorf("%s with %s: %w", f.UserCert, f.UserKey, err)
		}
		if b.user.Leaf.NotAfter.Before(b.notAfter) {
			b.notAfter = b.user.Leaf.NotAfter
		}
	}
	return b, nil
}

// verify checks a chain, at any time: a certificate that is out of its time is no reason not to start, since the others
// decide about it. It returns when the chain that lasts longest ends.
func (b *bundle) verify(c tls.Certificate) (end time.Time, err error) {
	shown := make([]*x509.Certificate, 0, len(c.Certificate))
	for _, der := range c.Certificate {
		i, err := x509.ParseCertificate(der)
		if err != nil {
			return end, err
		}
		shown = append(shown, i)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		chains, err := b.chains(shown, x509.VerifyOptions{
			CurrentTime: time.Now(), KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if len(chains) == 0 {
			return end, err
		}
		for _, chain := range chains {
			first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
			if first.NotAfter.After(end) {
				end = first.NotAfter
			}
		}
	}
	return end, nil
}

// Complete returns an error if some but not all files are given. any reports whether there are any.
func (f *Files) Complete() (any bool, err error) {
	all := f.Cert != "" && f.Key != "" && f.CA != ""
	any = f.Cert != "" || f.Key != "" || f.CA != ""
	switch users := f.UserCert != "" || f.UserKey != ""; {
	case any && !all:
		return any, errors.New("--tls-cert, --tls-key and --tls-ca belong together: give all three")
	case users && (f.UserCert == "" || f.UserKey == ""):
		return any, errors.New("--tls-user-cert and --tls-user-key belong together: give both")
	case users && !any:
		return any, errors.New("--tls-user-cert needs --tls-cert, --tls-key and --tls-ca, for the other nodes")
	}
	return any, nil
}
