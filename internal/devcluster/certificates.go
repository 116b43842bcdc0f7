package devcluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/durable"
)

// devDomain is the name of the certificate authority of a development cluster.
const devDomain = "dev.chainstore"

// authorityFiles are the files of the cluster's certificate authority.
func (t Topology) authorityFiles() certs.Files {
	return certs.Files{Cert: filepath.Join(t.Dir, "tls", "ca.pem"), Key: filepath.Join(t.Dir, "tls", "ca-key.pem")}
}

// certFiles are the files of a role's certificate.
func (t Topology) certFiles(name string) certs.Files {
	return certs.Files{
		Cert: filepath.Join(t.Dir, "tls", name+".pem"), Key: filepath.Join(t.Dir, "tls", name+"-key.pem"),
		CA: t.authorityFiles().Cert,
	}
}

// prepareTLS makes the authority, unless there is one, and new certificates for all roles.
func (c *Cluster) prepareTLS() error {
	authority, err := c.openAuthority()
	if err != nil {
		return err
	}
	for _, r := range c.topology.Roles() {
		if err := c.Issue(r, certs.NodeLifetime); err != nil {
			return err
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority.Certificate())
	c.trust = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
	return nil
}

// openAuthority reads the cluster's authority. It makes one if there is none.
func (c *Cluster) openAuthority() (*certs.Authority, error) {
	files := c.topology.authorityFiles()
	var p certs.Pair
	var err error
	if p.Cert, err = os.ReadFile(files.Cert); err == nil {
		p.Key, err = os.ReadFile(files.Key)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if p, err = certs.NewAuthority(devDomain, certs.AuthorityLifetime, time.Now()); err != nil {
			return nil, err
		}
		if err := durable.MkdirAll(filepath.Dir(files.Cert)); err != nil {
			return nil, err
		}
		err = writePair(files, p)
	}
	if err != nil {
		return nil, err
	}
	return certs.OpenAuthority(p)
}

// Issue replaces the certificate of a role by a new one. A role that runs notices it.
func (c *Cluster) Issue(r Role, lifetime time.Duration) error {
	authority, err := c.openAuthority()
	if err != nil {
		return err
	}
	hosts := []string{"localhost"}
	for _, hostPort := range []string{r.HTTP, r.Advertise, r.RaftAdvertise} {
		if host, _, err := net.SplitHostPort(hostPort); err == nil {
			hosts = append(hosts, host)
		}
	}
	p, err := authority.Issue(string(r.Kind), r.Name, hosts, lifetime, time.Now())
	if err != nil {
		return fmt.Errorf("the certificate of %s: %w", r.Name, err)
	}
	return writePair(c.topology.certFiles(r.Name), p)
}

// writePair writes the key first: a role that reads the files in between finds that they do not fit, and keeps those it
// has.
func writePair(files certs.Files, p certs.Pair) error {
	if err := durable.WriteFile(files.Key, p.Key, 0o600); err != nil {
		return err
	}
	return durable.WriteFile(files.Cert, p.Cert, 0o644)
}
