package offline

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/roles"
)

// NewLogBackup reads the log's private keys out of a stopped master's folder.
func NewLogBackup() *cobra.Command {
	var data, clusterTokenFile, sealFile, out, keysFile string
	cmd := &cobra.Command{
		Use:   "backup --data MASTER_DIR",
		Short: "Print the log's private keys, from the folder of a stopped master",
		Long: `Print the private signing keys of the log, one a line, from the data folder of a master that is
stopped or was removed. The output may include keys that were retired recently. Anyone with one of these keys can sign
in the cluster's name: keep them off the machines of the cluster, and readable by you alone.

A master restores one with --checkpoint-key and a file with that one line. This is needed for a group that is created
again, so that old receipts and new checkpoints belong to the same log, and after the cluster token was changed without
a rotation.`,
		Example: `  chainstore log backup --data /var/lib/chainstore/master \
    --cluster-token-file cluster.token --out log.key`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				return errors.New("name the data folder of a master that is stopped with --data")
			}
			secret, err := cli.ReadValues(cmp.Or(sealFile, clusterTokenFile), cli.EnvClusterToken)
			if err != nil {
				return err
			}
			var atRest *atrest.Ring
			if keysFile != "" {
				if atRest, err = atrest.Load(keysFile); err != nil {
					return err
				}
			}
			keys, err := roles.BackupLogKeys(data, secret, atRest,
				hclog.New(&hclog.LoggerOptions{Name: "backup", Level: hclog.Warn, Output: cmd.ErrOrStderr()}))
			if err != nil {
				return err
			}
			var text strings.Builder
			for _, k := range keys {
				text.WriteString(k.Text() + "\n")
			}
			if out == "" {
				_, err = fmt.Fprint(cmd.OutOrStdout(), text.String())
				return err
			}
			err = durable.Create(out, []byte(text.String()), 0o600)
			if errors.Is(err, os.ErrExist) {
				return fmt.Errorf("%s exists already: name another file, so that no key is lost", out)
			}
			if err != nil {
				return err
			}
			for _, k := range keys {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), k.VerifierKey()); err != nil {
					return err
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&data, "data", "", "data `folder` of a master that is stopped")
	cli.AddClusterToken(flags, &clusterTokenFile)
	flags.StringVar(&sealFile, "seal-secret-file", "", "`file` with the secret under which the masters seal the "+
		"keys, if they have one of its own")
	addAtRestKeys(cmd, &keysFile, atRestUsage)
	flags.StringVar(&out, "out", "",
		"`file` to write the keys to, readable by you alone; then their verifier keys are printed")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}
