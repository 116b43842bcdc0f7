package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// The protocols of ALPN.
const (
	// NodeProtocol is what a node offers in front of HTTP/1.1, which is what it then speaks. The server never chooses
	// it: it only says what kind of client this is.
	NodeProtocol = "chainstore-node/1"
	RaftProtocol = "chainstore-raft/1" // raft, between masters
	http1        = "http/1.1"
)

// ErrPeer is returned for the other side of a connection that is not the node which it should be.
var ErrPeer = errors.New("the certificate of the other side is not the one expected")

// base is what all configurations have.
func base() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true}
}

// Server is the configuration of the HTTP port. protocols are those that users may speak, such as "http/1.1".
func (s *Store) Server(protocols ...string) *tls.Config {
	c := base()
	c.NextProtos = protocols
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		b := s.current.Load()
		if slices.Contains(hello.SupportedProtos, NodeProtocol) {
			c := s.serverFor(b, http1)
			verify := c.VerifyConnection
			c.VerifyConnection = func(state tls.ConnectionState) error {
				err := verify(state)
				if err != nil {
					s.warnOfRefusal(hello.Conn.RemoteAddr(), err)
				}
				return err
			}
			return c, nil
		}
		c := base()
		c.NextProtos, c.Certificates = protocols, []tls.Certificate{b.user}
		return c, nil
	}
	return c
}

// RaftServer is the configuration of the raft port: the client must be a master.
func (s *Store) RaftServer() *tls.Config {
	c := base()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return s.serverFor(s.current.Load(), RaftProtocol, Master), nil
	}
	return c
}

// serverFor is a configuration for a client that must be a node, with one of the roles; none for any.
func (s *Store) serverFor(b *bundle, protocol string, roles ...string) *tls.Config {
	c := base()
	c.NextProtos, c.Certificates = []string{protocol}, []tls.Certificate{b.node}
	c.ClientAuth = tls.RequireAnyClientCert // VerifyConnection verifies it
	c.VerifyConnection = func(state tls.ConnectionState) error {
		return s.verifyPeer(b, state, "", x509.ExtKeyUsageClientAuth, roles)
	}
	return c
}

// Client is the configuration of a call to a node over HTTP. The certificate of the other side must be for the host, a
// name or an address, and for one of the roles, none for any.
func (s *Store) Client(host string, roles ...string) *tls.Config {
	return s.client(host, roles, NodeProtocol, http1)
}

// RaftClient is the configuration of a connection to the raft port of a master on a host.
func (s *Store) RaftClient(host string) *tls.Config {
	return s.client(host, []string{Master}, RaftProtocol)
}

// client is the configuration of a client that offers protocols. The last one must be chosen.
func (s *Store) client(host string, roles []string, protocols ...string) *tls.Config {
	c := base()
	c.NextProtos, c.ServerName = protocols, host
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &s.current.Load().node, nil
	}
	// Package tls would check the certificate with RootCAs, which cannot change: VerifyConnection does the same with
	// the present authorities. The name in its argument is empty for an address.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(state tls.ConnectionState) error {
		if host == "" || len(state.PeerCertificates) == 0 {
			return fmt.Errorf("%w: there is no host, or no certificate", ErrPeer)
		}
		if protocol := protocols[len(protocols)-1]; state.NegotiatedProtocol != protocol {
			return fmt.Errorf("%w: it does not speak %s", ErrPeer, protocol)
		}
		return s.verifyPeer(s.current.Load(), state, host, x509.ExtKeyUsageServerAuth, roles)
	}
	return c
}

// peer returns who is at the other side of a connection, whose certificate was verified.
func (b *bundle) peer(state tls.ConnectionState, roles []string) (Identity, error) {
	id, err := IdentityOf(state.PeerCertificates[0])
	switch {
	case err != nil:
		return id, fmt.Errorf("%w: %w", ErrPeer, err)
	case id.Domain != b.identity.Domain:
		return id, fmt.Errorf("%w: it is of %s, and this node belongs to %s", ErrPeer, id, b.identity.Domain)
	case len(roles) > 0 && !slices.Contains(roles, id.Role):
		return id, fmt.Errorf("%w: it is that of %s, and a %s is needed", ErrPeer, id, roles[0])
	}
	return id, nil
}

// PeerOf returns the node at the other side of a connection of [Store.Server]. ok is false for a user. The certificate
// of a client was verified if there is one: only the configurations for nodes ask for it.
func PeerOf(state *tls.ConnectionState) (id Identity, ok bool) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return id, false
	}
	id, err := IdentityOf(state.PeerCertificates[0])
	return id, err == nil
}

// CheckMaster is for [tls.Config.VerifyConnection] of a user: a server that shows the certificate of a node must be a
// master, even if another node has the same host.
func CheckMaster(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("%w: there is none", ErrPeer)
	}
	if id, err := IdentityOf(state.PeerCertificates[0]); err == nil && id.Role != Master {
		return fmt.Errorf("%w: it is that of %s, and a master is needed", ErrPeer, id)
	}
	return nil
}
