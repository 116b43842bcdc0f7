package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// plain leaves a topology without TLS.
func plain(*devcluster.Topology) {}

// secure makes the roles of a topology speak TLS, and the clients of the tests trust its authority.
func secure(topology *devcluster.Topology) {
	topology.TLS = true
	trust := trustOf(topology.Dir)
	if topology.HTTP == nil {
		topology.HTTP = &http.Client{
			Transport: &http.Transport{TLSClientConfig: trust, MaxIdleConnsPerHost: maxClients},
		}
		return
	}
	topology.HTTP.Transport.(*http.Transport).TLSClientConfig = trust
}

// trustOf returns the configuration of clients that trust the authority of a cluster, which may not exist yet.
func trustOf(dir string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, // VerifyConnection verifies
		VerifyConnection: func(state tls.ConnectionState) error {
			data, err := os.ReadFile(filepath.Join(dir, "tls", "ca.pem"))
			if err != nil {
				return err
			}
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(data)
			_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
			return err
		},
	}
}

// TestTLS runs a cluster with TLS under load: a leader is killed, and the certificates of all roles are replaced. No
// append may fail for it, and callers with the certificate of another role are refused although they have the cluster
// token.
func TestTLS(t *testing.T) {
	c := startWith(t, secure)
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	leader := c.leader("")
	c.kill(leader)
	c.leader(leader)
	l.more(some)
	c.launch(leader)
	c.awaitComplete(3)

	shown := map[string]string{}
	for _, r := range c.Topology().Roles() {
		shown[r.Name] = c.serial(r)
		if err := c.Issue(r, certs.NodeLifetime); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range c.Topology().Roles() {
		c.await(r.Name+" to show its new certificate", func() string {
			if now := c.serial(r); now == shown[r.Name] {
				return "it shows the old one"
			}
			return ""
		})
	}
	l.more(some)
	leader = c.leader("")
	c.kill(leader)
	c.leader(leader)
	c.launch(leader)
	c.awaitComplete(3)
	l.more(some)
	l.end()
	c.checkCallers()
	c.verify(o)
}

// serial returns the serial number of the certificate that a role shows.
func (c *cluster) serial(r devcluster.Role) string {
	c.t.Helper()
	conn, err := tls.Dial("tcp", r.HTTP, trustOf(c.dir))
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// checkCallers sends requests with every kind of certificate, and the proof of the secret, to routes of every kind.
func (c *cluster) checkCallers() {
	c.t.Helper()
	master, storage := roleOf(c.Topology(), "master-1"), roleOf(c.Topology(), "storage-1")
	asMaster, order := c.secrets().For(nodeauth.Masters), c.secrets().ForWorker(false, masterTokenOf(c.t, storage.Data))
	for _, row := range []struct {
		method, url string
		allowed     string // role
		proof       nodeauth.Credential
	}{
		{http.MethodGet, master.URL() + wire.PathLeaderStatus, certs.Master, asMaster},
		{http.MethodGet, master.URL() + wire.PathReadIndex, certs.Master, asMaster},
		{http.MethodPost, master.URL() + wire.PathSubmissions, certs.Master, asMaster},
		{http.MethodPost, master.URL() + wire.PathMasters, certs.Master, asMaster},
		{http.MethodPost, master.URL() + wire.PathAdopt, certs.Master, asMaster},
		{http.MethodGet, storage.URL() + wire.PathWorkerStatus, certs.Master, order},
		{http.MethodPut, storage.URL() + wire.PathBlocks + "1", certs.Master, order},
		{http.MethodPost, storage.URL() + wire.PathTransfer, certs.Storage, c.secrets().For(nodeauth.Storage)},
		{http.MethodGet, storage.URL() + wire.PathChain, certs.Master, c.secrets().For(nodeauth.Recovery)},
	} {
		for caller, files := range c.callerFiles() {
			status, said := c.call(row.method, row.url, row.proof, files)
			if refused := status == http.StatusForbidden; refused == (caller == row.allowed) {
				c.t.Errorf("%s %s by %s: %d %s", row.method, row.url, caller, status, said)
			}
		}
	}
	// In clear nothing is answered, at no port.
	for _, address := range []string{master.HTTP, storage.HTTP, master.Raft} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			c.t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience)) // it fails only for a closed connection
		_, err = conn.Write([]byte("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))
		said, readErr := io.ReadAll(conn)
		if text := string(said); strings.Contains(text, "200 OK") || errors.Is(readErr, os.ErrDeadlineExceeded) {
			c.t.Errorf("%s in clear: %q, %v, %v", address, text, err, readErr)
		}
		_ = conn.Close() // the other side has closed it
	}
}

// callerFiles returns the files of one role of each kind, and none for a user.
func (c *cluster) callerFiles() map[string]certs.Files {
	files := map[string]certs.Files{"user": {}}
	for _, name := range []string{"master-2", "storage-2", "miner-1"} {
		r := roleOf(c.Topology(), name)
		files[string(r.Kind)] = r.TLS
	}
	return files
}

// nodeHTTP returns a client for routes of nodes: with TLS it has the certificate of a master.
func (c *cluster) nodeHTTP() *http.Client {
	c.t.Helper()
	if !c.Topology().TLS {
		return c.httpClient()
	}
	transport := c.httpClient().Transport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	transport.TLSClientConfig = c.withCertificate(roleOf(c.Topology(), "master-1").TLS)
	return &http.Client{Transport: transport}
}

// withCertificate returns the configuration of a client that has a certificate, unless files is empty.
func (c *cluster) withCertificate(files certs.Files) *tls.Config {
	c.t.Helper()
	trust := trustOf(c.dir)
	if files.Cert == "" {
		return trust
	}
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	trust.Certificates, trust.NextProtos = []tls.Certificate{pair}, []string{certs.NodeProtocol, "http/1.1"}
	return trust
}

// call sends a request with a proof and a certificate.
func (c *cluster) call(
	method, url string, proof nodeauth.Credential, files certs.Files,
) (status int, said string) {
	c.t.Helper()
	transport := &http.Transport{TLSClientConfig: c.withCertificate(files), DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("{}"))
	if err != nil {
		c.t.Fatal(err)
	}
	answer, err := c.prove(&http.Client{Transport: transport}, proof)(request)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
