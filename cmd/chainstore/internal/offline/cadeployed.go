package offline

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/wire"
)

// deployPause is the time between two looks at the cluster.
const deployPause = 500 * time.Millisecond

func newCADeployed() *cobra.Command {
	var only bool
	var wait time.Duration
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "deployed CERT...",
		Short: "Wait until the running nodes of a cluster use certificates",
		Long: `Wait until the running nodes of a cluster use certificates. CERT is a file with the certificate of a
node, with one for users, or with authorities. The command ends when

  - all nodes trust the authorities in the files
  - each other certificate is shown by a node
  - with --only, no node trusts another authority, or shows another certificate

If that is not so within --wait, it fails and names what is missing.`,
		Example: `  chainstore ca deployed ca/ca.pem certs/*.pem --admin-token-file admin.token
  chainstore ca deployed --only ca/ca.pem certs/*.pem --wait 5m`,
		Args: certificateArgs,
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		d, err := readDeployment(c.Args)
		if err != nil {
			return err
		}
		d.only = only
		return d.await(c, wait)
	})
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"pem"}, cobra.ShellCompDirectiveFilterFileExt
	}
	cmd.Flags().BoolVar(&only, "only", false, "require that no other certificates are used or trusted")
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for the nodes")
	cli.NoFiles(cmd, "wait")
	return cmd
}

// deployment is what the nodes must use.
type deployment struct {
	authorities map[string]string // the file of each, by fingerprint
	shown       map[string]string // the file of each other certificate, by serial number
	only        bool
}

// readDeployment reads files. Of one whose first certificate is no authority only that one counts: those after it are
// of authorities between it and one that the nodes trust.
func readDeployment(paths []string) (*deployment, error) {
	files, err := readCertificates(paths)
	if err != nil {
		return nil, err
	}
	d := &deployment{authorities: map[string]string{}, shown: map[string]string{}}
	for _, f := range files {
		if !f.IsCA {
			d.shown[certs.SerialOf(f.Certificate)] = f.path
			continue
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			return nil, err
		}
		list, err := certs.ParseAll(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		for _, a := range list {
			d.authorities[certs.FingerprintOf(a)] = f.path
		}
	}
	if len(d.authorities) > wire.MaxAuthorities {
		return nil, fmt.Errorf("the files have %d authorities: nodes report at most %d", len(d.authorities),
			wire.MaxAuthorities)
	}
	return d, nil
}

// await asks the cluster until nothing is missing.
func (d *deployment) await(c *cli.Call, wait time.Duration) error {
	for end := time.Now().Add(wait); ; {
		status, err := c.Cluster(c.Ctx)
		var missing []error
		switch {
		case err != nil:
			missing = append(missing, err)
		case !status.Authoritative:
			missing = append(missing, errors.New("the leader does not answer, so it is not known what the nodes use"))
		default:
			missing = d.missing(&status)
		}
		if len(missing) == 0 {
			_, err := fmt.Fprintf(c.Out, "all nodes trust %d authorities, and %d certificates are in use\n",
				len(d.authorities), len(d.shown))
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("not deployed after %v: %w", wait, errors.Join(missing...))
		}
		select {
		case <-c.Ctx.Done():
			return c.Ctx.Err()
		case <-time.After(deployPause):
		}
	}
}

// missing lists what is not as it must be.
func (d *deployment) missing(status *wire.Cluster) (list []error) {
	unused := maps.Clone(d.shown)
	check := func(role, url, id string, c *wire.Certificate) {
		node := role + " " + url
		if url == "" {
			node = role + " " + id
		}
		switch {
		case c == nil || len(c.Authorities) == 0:
			list = append(list, fmt.Errorf("%s: its certificates are not known: it does not answer, has no TLS, or is "+
				"of an older version", node))
			return
		case c.Error != "":
			list = append(list, fmt.Errorf("%s does not use its files: %s", node, c.Error))
		}
		for _, print := range slices.Sorted(maps.Keys(d.authorities)) {
			if !slices.Contains(c.Authorities, print) {
				list = append(list, fmt.Errorf("%s does not trust the authority %.16s in %s", node, print,
					d.authorities[print]))
			}
		}
		for _, print := range c.Authorities {
			if d.only && d.authorities[print] == "" {
				list = append(list, fmt.Errorf("%s trusts another authority, %.16s", node, print))
			}
		}
		for _, serial := range []string{c.Serial, c.UserSerial} {
			if d.only && serial != "" && d.shown[serial] == "" {
				list = append(list, fmt.Errorf("%s shows another certificate, with the serial number %s", node, serial))
			}
			delete(unused, serial)
		}
	}
	for i := range status.Masters {
		check("master", status.Masters[i].URL, status.Masters[i].ID, status.Masters[i].Certificate)
	}
	for i := range status.Storages {
		check("storage node", status.Storages[i].URL, status.Storages[i].ID, status.Storages[i].Certificate)
	}
	for i := range status.Miners {
		check("miner", status.Miners[i].URL, status.Miners[i].ID, status.Miners[i].Certificate)
	}
	for _, file := range slices.Sorted(maps.Values(unused)) {
		list = append(list, fmt.Errorf("no node shows the certificate in %s", file))
	}
	return list
}
