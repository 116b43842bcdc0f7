package offline

import (
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
	}, newCAInit(), newCAIssue(), newCARenew(), newCAShow())
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
and hosts. A node that runs reads them within ten seconds.`,
		Example: "  chainstore ca renew certs/m1.pem --dir ca",
		Args:    cobra.MinimumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"pem"}, cobra.ShellCompDirectiveFilterFileExt
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
			for _, path := range args {
				if err := renew(cmd, authority, path, lifetime); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "ca", "`folder` of the authority")
	cmd.Flags().IntVar(&days, "days", int(certs.NodeLifetime/day), "`days` until they end")
	cli.MustComplete(cmd.MarkFlagDirname("dir"))
	return cmd
}

// renew replaces one certificate. The key is written first: a node that reads the files in between finds that they do
// not fit, and keeps those that it has.
func renew(cmd *cobra.Command, authority *certs.Authority, path string, lifetime time.Duration) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	old, err := certs.Parse(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	id, err := certs.IdentityOf(old)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if id.Domain != authority.Domain() {
		return fmt.Errorf("%s is the certificate of %s, and the authority is that of %s", path, id, authority.Domain())
	}
	key := strings.TrimSuffix(path, ".pem") + "-key.pem"
	if _, err := os.Stat(key); err != nil {
		return fmt.Errorf("the key of %s is not where it is expected: %w", path, err)
	}
	pair, err := authority.Issue(id.Role, id.Name, certs.HostsOf(old), lifetime, time.Now())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := durable.WriteFile(key, pair.Key, 0o600); err != nil {
		return err
	}
	if err := durable.WriteFile(path, pair.Cert, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s and %s were replaced\n", path, key)
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
	cmd := &cobra.Command{
		Use:     "show CERT...",
		Short:   "Show what certificates say and when they end",
		Example: "  chainstore ca show ca/ca.pem certs/*.pem",
		Args:    cobra.MinimumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"pem"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			list := []shownCert{}
			rows := []render.Row{{"FILE", "IDENTITY", "HOSTS", "BEGINS", "ENDS"}}
			for _, path := range args {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				c, err := certs.Parse(data)
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				s := shownCert{File: path, Subject: c.Subject.CommonName, Hosts: certs.HostsOf(c), Begins: c.NotBefore,
					Ends: c.NotAfter}
				shown := s.Subject
				if id, err := certs.IdentityOf(c); err == nil {
					s.Identity = id.String()
					shown = s.Identity
				}
				list = append(list, s)
				rows = append(rows, render.Row{path, shown, strings.Join(s.Hosts, " "), utcDay(s.Begins),
					utcDay(s.Ends)})
			}
			return render.Print(cmd.OutOrStdout(), asJSON, list, render.Table(rows...))
		},
	}
	cli.AddJSON(cmd, &asJSON, "print a JSON array")
	return cmd
}

func utcDay(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// daysOf returns a lifetime. Certificates of more than 100 years are a mistake.
func daysOf(days int) (time.Duration, error) {
	if days < 1 || days > 36500 {
		return 0, fmt.Errorf("--days %d is not within 1 and 36500", days)
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
			return fmt.Errorf("%s exists already: remove it first, or choose another folder or name", path)
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
