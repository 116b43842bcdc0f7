package offline

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/durable"
)

// The files of an authority in its folder.
const (
	caCert = "ca.pem"
	caKey  = "ca-key.pem"
)

const day = 24 * time.Hour

// NewCA has the commands of a small certificate authority.
func NewCA() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "ca",
		Short: "Make certificates for the nodes of a cluster",
		Long: `A small certificate authority, for a cluster whose operator has none. Its folder holds the certificate
ca.pem, which every node and user trusts, and the private key ca-key.pem: keep that off the machines of the cluster.

A certificate of a node names its role in a URI, spiffe://DOMAIN/ROLE/NAME, and what the node may do follows from it.
Certificates of another authority work too if they have such a URI: see docs/operations.md.`,
	}, newCAInit(), newCAIssue(), newCARenew(), newCAShow(), newCADeployed())
}

func newCAInit() *cobra.Command {
	var dir string
	var days int
	cmd := &cobra.Command{
		Use:   "init DOMAIN",
		Short: "Make an authority for the cluster DOMAIN",
		Example: `  chainstore ca init ledger.bank.example --dir ca
  chainstore ca issue master m1 --host 10.0.0.1 --dir ca --out certs`,
		Args:              cli.ExactArgs("the cluster, such as ledger.bank.example"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			lifetime, err := daysOf(days)
			if err != nil {
				return err
			}
			pair, err := certs.NewAuthority(args[0], lifetime, time.Now())
			if err != nil {
				return err
			}
			if err := durable.MkdirAll(dir); err != nil {
				return err
			}
			return createPair(cmd, filepath.Join(dir, caCert), filepath.Join(dir, caKey), pair)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "ca", "`folder` for the authority")
	cmd.Flags().IntVar(&days, "days", int(certs.AuthorityLifetime/day), "`days` until it ends")
	cli.MustComplete(cmd.MarkFlagDirname("dir"))
	return cmd
}

func newCAIssue() *cobra.Command {
	var dir, out string
	var hosts []string
	var days int
	cmd := &cobra.Command{
		Use:   "issue ROLE NAME",
		Short: "Make the certificate of a node: a master, a storage or a miner",
		Example: `  chainstore ca issue master m1 --host m1.bank.example,10.0.0.1 --dir ca --out certs
  chainstore master --tls-cert certs/m1.pem --tls-key certs/m1-key.pem --tls-ca ca/ca.pem …`,
		Args: cli.ExactArgs("the role (master, storage or miner) and a name of the node"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []string{certs.Master, certs.Storage, certs.Miner}, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			lifetime, err := daysOf(days)
			if err != nil {
				return err
			}
			authority, err := openAuthority(dir)
			if err != nil {
				return err
			}
			if len(hosts) == 0 {
				return errors.New("name the host names and addresses at which others reach the node, with --host")
			}
			pair, err := authority.Issue(args[0], args[1], hosts, lifetime, time.Now())
			if err != nil {
				return err
			}
			if err := durable.MkdirAll(out); err != nil {
				return err
			}
			path := filepath.Join(out, args[1])
			return createPair(cmd, path+".pem", path+"-key.pem", pair)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "ca", "`folder` of the authority")
	flags.StringVar(&out, "out", ".", "`folder` for NAME.pem and NAME-key.pem")
	flags.StringSliceVar(&hosts, "host", nil, "`names` and addresses at which others reach the node")
	flags.IntVar(&days, "days", int(certs.NodeLifetime/day), "`days` until it ends")
	cli.MustComplete(cmd.MarkFlagDirname("dir"))
	cli.MustComplete(cmd.MarkFlagDirname("out"))
	cli.NoFiles(cmd, "host")
	return cmd
}

func newCARenew() *cobra.Command {
	var dir string
	var days int
	cmd := &cobra.Command{
		Use:   "renew CERT...",
		Short: "Replace certificates of nodes by new ones with new keys",
		Long: `Replace certificates and their keys, in files NAME.pem and NAME-key.pem, by new ones for the same nodes
and hosts. A node that runs reads them within seconds: see
'chainstore ca deployed'.`,
		Example: "  chainstore ca renew certs/m1.pem --dir ca",
		Args:    certificateArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"pem"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var lifetime time.Duration
			if cmd.Flags().Changed("days") {
				var err error
				if lifetime, err = daysOf(days); err != nil {
					return err
				}
			}
			authority, err := openAuthority(dir)
			if err != nil {
				return err
			}
			list, err := readCertificates(args)
			if err != nil {
				return err
			}
			// All are checked before the first is replaced.
			renewals := make([]renewal, len(list))
			for i, c := range list {
				if renewals[i], err = newRenewal(authority, c, lifetime); err != nil {
					return err
				}
			}
			for i, r := range renewals {
				if err := r.write(cmd); err != nil {
					return fmt.Errorf("%d of %d certificates were replaced: %w", i, len(renewals), err)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "ca", "`folder` of the authority")
	cmd.Flags().IntVar(&days, "days", 0, "`days` until they end (default as many as before)")
	cli.MustComplete(cmd.MarkFlagDirname("dir"))
	return cmd
}

// certificateArgs requires the files of certificates.
func certificateArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("name the certificates: %s", cmd.Use)
	}
	return nil
}

// certificateFile is a certificate and where it is.
type certificateFile struct {
	path string
	*x509.Certificate
}

// readCertificates reads certificates. It skips the private keys that a pattern such as *.pem names too.
func readCertificates(paths []string) (list []certificateFile, err error) {
	key := ""
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if block, _ := pem.Decode(data); block != nil && strings.HasSuffix(block.Type, "PRIVATE KEY") {
			key = path
			continue
		}
		c, err := certs.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, certificateFile{path, c})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s is a private key: name the certificate", key)
	}
	return list, nil
}

// renewal is a new certificate in place of an old one.
type renewal struct {
	cert, key string // files
	pair      certs.Pair
}

// newRenewal makes a new certificate. It lasts as long as the old one if lifetime is 0.
func newRenewal(authority *certs.Authority, old certificateFile, lifetime time.Duration) (r renewal, err error) {
	id, err := certs.IdentityOf(old.Certificate)
	if err != nil {
		return r, fmt.Errorf("%s: %w", old.path, err)
	}
	if id.Domain != authority.Domain() {
		return r, fmt.Errorf("%s is the certificate of %s, and the authority is that of %s", old.path, id,
			authority.Domain())
	}
	if lifetime == 0 {
		lifetime = certs.LifetimeOf(old.Certificate)
	}
	r = renewal{cert: old.path, key: strings.TrimSuffix(old.path, ".pem") + "-key.pem"}
	if _, err := os.Stat(r.key); err != nil {
		return r, fmt.Errorf("the key of %s is not where it is expected: %w", r.cert, err)
	}
	r.pair, err = authority.Issue(id.Role, id.Name, certs.HostsOf(old.Certificate), lifetime, time.Now())
	if err != nil {
		return r, fmt.Errorf("%s: %w", r.cert, err)
	}
	return r, nil
}

// write replaces the files, the key first: a node that reads them in between finds that they do not fit, and keeps what
// it has.
func (r *renewal) write(cmd *cobra.Command) error {
	if err := durable.WriteFile(r.key, r.pair.Key, 0o600); err != nil {
		return err
	}
	if err := durable.WriteFile(r.cert, r.pair.Cert, 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s and %s were replaced\n", r.cert, r.key)
	return err
}

// shownCert is the JSON output of ca show.
type shownCert struct {
	File     string    `json:"file"`
	Identity string    `json:"identity"` // "" if it names no node
	Subject  string    `json:"subject"`
	Hosts    []string  `json:"hosts"`
	Begins   time.Time `json:"begins"`
	Ends     time.Time `json:"ends"`
}

func newCAShow() *cobra.Command {
	var asJSON bool
	var within time.Duration
	cmd := &cobra.Command{
		Use:     "show CERT...",
		Short:   "Show what certificates say and when they end",
		Example: "  chainstore ca show ca/ca.pem certs/*.pem\n  chainstore ca show certs/*.pem --within 336h",
		Args:    certificateArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"pem"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			list := []shownCert{}
			rows := []render.Row{{"FILE", "IDENTITY", "HOSTS", "BEGINS", "ENDS", "LEFT"}}
			files, err := readCertificates(args)
			if err != nil {
				return err
			}
			for _, f := range files {
				s := shownCert{File: f.path, Subject: f.Subject.CommonName, Hosts: certs.HostsOf(f.Certificate),
					Begins: f.NotBefore, Ends: f.NotAfter}
				shown := s.Subject
				if id, err := certs.IdentityOf(f.Certificate); err == nil {
					s.Identity = id.String()
					shown = s.Identity
				}
				list = append(list, s)
				rows = append(rows, render.Row{f.path, shown, strings.Join(s.Hosts, " "), utcDay(s.Begins),
					utcDay(s.Ends), left(s.Ends)})
			}
			if err := render.Print(cmd.OutOrStdout(), asJSON, list, render.Table(rows...)); err != nil {
				return err
			}
			return endingWithin(list, within)
		},
	}
	cli.AddJSON(cmd, &asJSON, "print a JSON array")
	cmd.Flags().DurationVar(&within, "within", 0, "fail if a certificate ends within this time, such as 336h, or has "+
		"ended; 0 for never")
	return cmd
}

// endingWithin returns an error that names the certificates which end within a time, unless that is 0.
func endingWithin(list []shownCert, within time.Duration) error {
	if within == 0 {
		return nil
	}
	if within < 0 {
		return fmt.Errorf("--within %v is negative", within)
	}
	var ending []string
	for i := range list {
		if time.Until(list[i].Ends) <= within {
			ending = append(ending, list[i].File)
		}
	}
	if len(ending) > 0 {
		return fmt.Errorf("certificates end within %v: %s: renew them ('chainstore ca renew')", within,
			strings.Join(ending, ", "))
	}
	return nil
}

// left returns how long it is until a certificate ends.
func left(end time.Time) string {
	switch d := time.Until(end); {
	case d <= 0:
		return "expired"
	case d < 2*day:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d/day))
	}
}

func utcDay(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// daysOf returns a lifetime. Certificates of more than 100 years are a mistake.
func daysOf(days int) (time.Duration, error) {
	if days < 1 || days > 36500 {
		return 0, fmt.Errorf("--days %d must be from 1 to 36500", days)
	}
	return time.Duration(days) * day, nil
}

func openAuthority(dir string) (*certs.Authority, error) {
	var p certs.Pair
	var err error
	if p.Cert, err = os.ReadFile(filepath.Join(dir, caCert)); err == nil {
		p.Key, err = os.ReadFile(filepath.Join(dir, caKey))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: make an authority with 'chainstore ca init', or name its folder with --dir", err)
	}
	if err != nil {
		return nil, err
	}
	a, err := certs.OpenAuthority(p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, caCert), err)
	}
	return a, nil
}

// createPair writes files that must not exist.
func createPair(cmd *cobra.Command, cert, key string, p certs.Pair) error {
	for _, path := range []string{cert, key} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists already: nothing was made; choose another folder or name, or replace the "+
				"certificate of a node with 'chainstore ca renew'", path)
		}
	}
	if err := durable.Create(key, p.Key, 0o600); err != nil {
		return err
	}
	if err := durable.Create(cert, p.Cert, 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "made %s and %s\n", cert, key)
	return err
}
