package cli

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/internal/certs"
)

// EnvCA replaces --tls-ca.
const EnvCA = "CHAINSTORE_TLS_CA"

// AddCA adds the flag that names the file of a cluster's certificate authority.
func AddCA(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "tls-ca", "", "`file` with the authorities (PEM) that may vouch for "+
		"https:// URLs, besides those of the system (or "+EnvCA+")")
	MustComplete(cmd.MarkFlagFilename("tls-ca", "pem", "crt"))
}

// TLSConfig returns the configuration of connections to masters that trusts the authorities of the system and those
// in a file, the one in [EnvCA] if it is "". It returns nil if there is none.
func TLSConfig(file string) (*tls.Config, error) {
	if file == "" {
		file = os.Getenv(EnvCA)
	}
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: it has no certificate in PEM", file)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, VerifyConnection: certs.CheckMaster}, nil
}
