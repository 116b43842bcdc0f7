package workerapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/wire"
)

// certificateOf is what a worker says of its certificates, nil without TLS.
func certificateOf(store *certs.Store) *wire.Certificate {
	if store == nil {
		return nil
	}
	return store.Certificate()
}

// guardOf returns the guard of a worker's metrics, which are known under the worker's URL and its addresses.
func guardOf(url string) *httpapi.Guard {
	return &httpapi.Guard{Masters: func() []string { return []string{url} }}
}

// useOf is what a worker says about the step of the move to TLS.
func useOf(mode *certs.Mode, c *gin.Context) *wire.TLSUse {
	return &wire.TLSUse{Step: mode.Step(), Secured: c.Request.TLS != nil}
}

// TLSProber tries TLS with other nodes; nil for a node that cannot.
type TLSProber func(context.Context, wire.TLSProbe) (wire.TLSProbed, error)

// probeTLS is the handler of an order to try TLS with other nodes.
func probeTLS(g *gate, probe TLSProber) httpapi.Handler {
	return httpapi.WithJSON(func(c *gin.Context, p wire.TLSProbe) error {
		if err := g.pass(c); err != nil {
			return err
		}
		switch {
		case len(p.Targets) > wire.MaxTLSTargets:
			return fmt.Errorf("%w: %d targets, and at most %d are tried at once", wire.ErrBadRequest, len(p.Targets),
				wire.MaxTLSTargets)
		case probe == nil:
			return fmt.Errorf("%w: this node cannot try TLS", wire.ErrUnavailable)
		}
		return httpapi.Answer(c, http.StatusOK)(probe(c.Request.Context(), p))
	})
}

// metricsOf are the metrics of a worker's certificates.
func metricsOf(store *certs.Store) httpapi.CertificateMetrics {
	if store == nil {
		return httpapi.CertificateMetrics{}
	}
	return httpapi.CertificateMetrics{Report: store.Report}
}

// orNone returns what a worker says of its secrets, a function that returns none for nil.
func orNone(reported func() []wire.SecretUse) func() []wire.SecretUse {
	if reported == nil {
		return func() []wire.SecretUse { return nil }
	}
	return reported
}
