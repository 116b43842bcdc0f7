package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	oidclib "github.com/coreos/go-oidc/v3/oidc"
)

const (
	// fetchTimeout bounds a request to the issuer, its body included.
	fetchTimeout = 5 * time.Second
	// maxDocument bounds a document of the issuer, in bytes.
	maxDocument = 1 << 20
)

// newClient returns the client for requests to the issuer. It follows no redirects: the documents decide who is let in.
func newClient(ca string) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		data, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("--oidc-ca %s has no certificate in PEM", ca)
		}
	}
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: bounded{&http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
			MaxResponseHeaderBytes: 64 << 10, MaxConnsPerHost: 2, IdleConnTimeout: time.Minute,
		}},
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return fmt.Errorf("the issuer redirects to %s: give --oidc-issuer the URL that it has now", r.URL.Host)
		},
	}, nil
}

// bounded is a transport whose answers have at most maxDocument bytes.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &boundedBody{resp.Body, maxDocument}
	}
	return resp, err
}

// boundedBody is a body that fails once more than left bytes were read.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, fmt.Errorf("the document has more than %d bytes", maxDocument)
	}
	return n, err
}

// discovery has the fields of the discovery document (OpenID Connect Discovery 1.0) that are used.
type discovery struct {
	Keys          string `json:"jwks_uri"`
	Authorisation string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
}

// fetchPublished reads what an issuer publishes: its discovery document and its keys.
func fetchPublished(ctx context.Context, client *http.Client, issuer string) (published, error) {
	provider, err := oidclib.NewProvider(oidclib.ClientContext(ctx, client), issuer)
	if err != nil {
		return published{}, fmt.Errorf("its discovery document: %w", short(err))
	}
	var d discovery
	if err := provider.Claims(&d); err != nil {
		return published{}, fmt.Errorf("its discovery document: %w", short(err))
	}
	if err := checkURL("its jwks_uri", d.Keys); err != nil {
		return published{}, err
	}
	data, err := get(ctx, client, d.Keys)
	if err != nil {
		return published{}, fmt.Errorf("its keys: %w", short(err))
	}
	keys, err := parseKeys(data)
	return published{keys: keys, authorisation: d.Authorisation, token: d.Token}, err
}

// get reads a document.
func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// short returns an error with at most maxErrorText bytes of text: go-oidc adds the whole body of an answer.
func short(err error) error {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(err.Error(), "?")), " ")
	if len(text) <= maxErrorText {
		return err
	}
	return errors.New(text[:maxErrorText] + "…")
}

const maxErrorText = 300
