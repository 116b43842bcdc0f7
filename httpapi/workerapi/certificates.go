package workerapi

import (
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

// useOf is what a worker says about the step of the move to TLS.
func useOf(mode *certs.Mode, c *gin.Context) *wire.TLSUse {
	return &wire.TLSUse{Step: mode.Step(), Secured: c.Request.TLS != nil}
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
