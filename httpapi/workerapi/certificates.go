package workerapi

import (
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
