package exchange

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestErrorsOfTLS calls servers with and without TLS by the wrong scheme, one of an unknown authority, and one that
// wants a certificate. The errors say what to do.
func TestErrorsOfTLS(t *testing.T) {
	empty := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	plain, secured := httptest.NewServer(empty), httptest.NewTLSServer(empty)
	strict := httptest.NewUnstartedServer(empty)
	strict.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	strict.StartTLS()
	defer func() {
		for _, s := range []*httptest.Server{plain, secured, strict} {
			s.Close()
		}
	}()
	for _, row := range []struct{ name, base, text string }{
		{"https to a plain port", "https" + strings.TrimPrefix(plain.URL, "http"), "URL with http://"},
		{"http to a port with TLS", "http" + strings.TrimPrefix(secured.URL, "https"), "URL with https://"},
		{"an unknown authority", secured.URL, "--tls-ca"},
		{"no certificate", strict.URL, "--tls-cert"},
	} {
		transport := NewTransport(0, 1)
		if row.base == strict.URL {
			transport.TLSClientConfig = strict.Client().Transport.(*http.Transport).TLSClientConfig
		}
		defer transport.CloseIdleConnections()
		answer, err := Do(t.Context(), transport.RoundTrip, &Request{
			Method: "GET", Base: row.base, Path: "/", Header: http.Header{}, Limit: 99,
		})
		if err == nil {
			err = answer.Problem()
		}
		if err == nil || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}
