package certs

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"time"
)

// How long certificates last by default.
const (
	AuthorityLifetime = 10 * 365 * 24 * time.Hour
	NodeLifetime      = 90 * 24 * time.Hour
)

// backdate is how long before now a certificate begins, for clocks that are behind.
const backdate = time.Hour

// Pair is a certificate and its private key, in PEM. Keys are ECDSA on P-256 in PKCS #8, which browsers and load
// balancers know too.
type Pair struct{ Cert, Key []byte }

// Authority is a certificate authority for the nodes of one cluster. It has no list of what it has issued, and revokes
// nothing: certificates of nodes are short-lived.
type Authority struct {
	cert   *x509.Certificate
	signer tls.Certificate
	domain string
}

// NewAuthority makes an authority. The domain is the first part of the identities that it issues.
func NewAuthority(domain string, lifetime time.Duration, now time.Time) (Pair, error) {
	if err := checkName("domain", domain); err != nil {
		return Pair{}, err
	}
	return sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "ChainStore CA " + domain},
		IsCA:    true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{{Scheme: "spiffe", Host: domain}},
	}, nil, lifetime, now)
}

// OpenAuthority reads an authority that [NewAuthority] has made.
func OpenAuthority(p Pair) (*Authority, error) {
	signer, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		return nil, err
	}
	c := signer.Leaf
	if !c.IsCA || len(c.URIs) != 1 || c.URIs[0].Scheme != "spiffe" || checkName("domain", c.URIs[0].Host) != nil {
		return nil, errors.New("this is not an authority that 'chainstore ca init' has made")
	}
	return &Authority{cert: c, signer: signer, domain: c.URIs[0].Host}, nil
}

// Certificate returns the certificate that others trust.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Domain returns the first part of the identities.
func (a *Authority) Domain() string { return a.domain }

// NotAfter returns when the authority ends.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// Issue makes the certificate of a node. hosts are the names and addresses at which others reach it. It ends with the
// authority at the latest.
func (a *Authority) Issue(role, name string, hosts []string, lifetime time.Duration, now time.Time) (Pair, error) {
	id := Identity{Domain: a.domain, Role: role, Name: name}
	if err := id.Check(); err != nil {
		return Pair{}, err
	}
	if len(hosts) == 0 {
		return Pair{}, errors.New("a certificate needs the names or addresses at which others reach the node")
	}
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: role + " " + name}, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{id.URI()},
	}
	for _, host := range hosts {
		if host == "" || strings.ContainsAny(host, "/: ") && net.ParseIP(host) == nil {
			return Pair{}, fmt.Errorf("%q is no host: give a name or an address, without a scheme and a port", host)
		}
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	if left := a.cert.NotAfter.Sub(now); left <= 0 {
		return Pair{}, fmt.Errorf("the authority has expired, on %s: make a new one with 'chainstore ca init'",
			a.cert.NotAfter.Format(time.DateOnly))
	} else if lifetime > left {
		lifetime = left
	}
	return sign(c, a, lifetime, now)
}

// sign completes, signs and encodes a certificate, with a new key. Without an authority it signs itself.
func sign(c *x509.Certificate, a *Authority, lifetime time.Duration, now time.Time) (p Pair, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return p, err
	}
	if c.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return p, err
	}
	c.NotBefore, c.NotAfter = now.Add(-backdate), now.Add(lifetime)
	parent, signer := c, any(key)
	if a != nil {
		parent, signer = a.cert, a.signer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		return p, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return p, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

// Parse reads the first certificate of a file in PEM.
func Parse(data []byte) (*x509.Certificate, error) {
	list, err := ParseAll(data)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// ParseAll reads the certificates of a file in PEM, at least one. Text before and between them is ignored, anything
// else is an error.
func ParseAll(data []byte) (list []*x509.Certificate, err error) {
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if bytes.Contains(rest, []byte("-----BEGIN")) {
				return nil, errors.New("a certificate in it is incomplete")
			}
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it has no certificate but a %s", strings.ToLower(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	if len(list) == 0 {
		return nil, errors.New("it has no certificate in PEM")
	}
	return list, nil
}

// HostsOf returns the names and addresses of a certificate.
func HostsOf(c *x509.Certificate) []string {
	hosts := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

// FingerprintOf returns the SHA-256 of a certificate, in hexadecimal, as other programs show it.
func FingerprintOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// LifetimeOf returns how long a certificate lasts, from when it was made.
func LifetimeOf(c *x509.Certificate) time.Duration { return c.NotAfter.Sub(c.NotBefore) - backdate }
