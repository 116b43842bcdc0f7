package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The roles of nodes in their certificates.
const (
	Master  = "master"
	Storage = "storage"
	Miner   = "miner"
)

var roles = []string{Master, Storage, Miner}

// maxName bounds the names in an identity, in bytes.
const maxName = 63

// Identity names a node: spiffe://DOMAIN/ROLE/NAME. The domain is the name of the cluster's certificate authority.
// Domain and name have 1 to 63 lower-case letters, digits, dots, dashes and underscores.
type Identity struct {
	Domain string
	Role   string // Master, Storage or Miner
	Name   string
}

// ErrIdentity is returned for a certificate or text that names no node.
var ErrIdentity = errors.New("no identity of a node")

// wrongIdentity says what is wrong. It is [ErrIdentity].
type wrongIdentity string

func (e wrongIdentity) Error() string { return string(e) }

func (e wrongIdentity) Is(target error) bool { return target == ErrIdentity }

func wrongf(format string, args ...any) error { return wrongIdentity(fmt.Sprintf(format, args...)) }

// URI returns the identity as it is in a certificate.
func (id Identity) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.Domain, Path: "/" + id.Role + "/" + id.Name}
}

func (id Identity) String() string { return id.URI().String() }

// Check returns an error that wraps [ErrIdentity] if a part is missing or has other characters.
func (id Identity) Check() error {
	if !slices.Contains(roles, id.Role) {
		return wrongf("the role %q is none of %s", id.Role, strings.Join(roles, ", "))
	}
	for what, text := range map[string]string{"domain": id.Domain, "name": id.Name} {
		if err := checkName(what, text); err != nil {
			return err
		}
	}
	return nil
}

func checkName(what, text string) error {
	wrong := strings.IndexFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
	})
	if text == "" || len(text) > maxName || wrong >= 0 {
		return wrongf("the %s %q must have 1 to %d of a-z, 0-9, '.', '-' and '_'", what, text, maxName)
	}
	return nil
}

// ParseIdentity reads the form of [Identity.URI].
func ParseIdentity(text string) (Identity, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	role, name, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	id := Identity{Domain: u.Host, Role: role, Name: name}
	if err := id.Check(); err != nil {
		return Identity{}, err
	}
	if id.String() != text {
		return Identity{}, wrongf("%q does not have the form spiffe://DOMAIN/ROLE/NAME", text)
	}
	return id, nil
}

// IdentityOf returns the identity in a certificate. It must be its only URI.
func IdentityOf(c *x509.Certificate) (Identity, error) {
	if c.IsCA {
		return Identity{}, wrongf("%q is an authority, and not the certificate of a node", c.Subject.CommonName)
	}
	if len(c.URIs) != 1 {
		return Identity{}, wrongf("the certificate of %q has %d URIs; that of a node has one, "+
			"spiffe://DOMAIN/ROLE/NAME", c.Subject.CommonName, len(c.URIs))
	}
	return ParseIdentity(c.URIs[0].String())
}
