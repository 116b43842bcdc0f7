package exchange

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// explained adds to the error of a connection what to do, where one side has TLS and the other has not, or one does not
// trust the other.
func explained(err error) error {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return fmt.Errorf("%w: the other side does not speak TLS: give its URL with http://, or start it with "+
			"certificates (--tls-cert)", err)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fmt.Errorf("%w: give the certificate of its authority with --tls-ca", err)
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "remote error" {
		return fmt.Errorf("%w: the other side refuses this connection, maybe for the certificate of this side "+
			"(--tls-cert); its log says why", err)
	}
	return err
}

// needsTLS is what a server of package http answers to a request in clear if it speaks TLS.
var needsTLS = []byte("Client sent an HTTP request to an HTTPS server.")

// speaksTLS reports whether an answer says that the server speaks TLS.
func (a *Answer) speaksTLS() bool {
	return a.Status == http.StatusBadRequest && bytes.HasPrefix(a.Body, needsTLS)
}
