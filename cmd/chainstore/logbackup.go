package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/roles"
)

// newLogBackupCommand reads the log's private keys out of a stopped master's folder.
func newLogBackupCommand() *cobra.Command {
	var data, clusterTokenFile, out string
	cmd := &cobra.Command{
		Use:   "backup --data MASTER_DIR",
		Short: "Print the log's private keys, from the folder of a stopped master",
		Long: `Print the private keys of the log that sign, one a line, from the data folder of a master that is
stopped, or was removed. Keys that were retired
so lately that the folder does not show it for certain are among them. Whoever has one can sign in the cluster's name:
keep them off the machines, and
readable by nobody else.

A master takes one back with --checkpoint-key and a file with that one line: for a group that is founded anew, so that
old receipts and its new
checkpoints are of the same log, or after the cluster token was changed.`,
		Example: `  chainstore log backup --data /var/lib/chainstore/master --cluster-token-file ` +
			`cluster.token --out log.key`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				return errors.New("name the data folder of a master that is stopped with --data")
			}
			token, err := readSecret(clusterTokenFile, "CHAINSTORE_CLUSTER_TOKEN")
			if err != nil {
				return err
			}
			keys, err := roles.BackupLogKeys(data, token,
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
				return fmt.Errorf("%s is there already: name another file, so that no key is lost", out)
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
	flags.StringVar(&clusterTokenFile, "cluster-token-file", "",
		"`file` with the cluster token (or CHAINSTORE_CLUSTER_TOKEN)")
	flags.StringVar(&out, "out", "",
		"`file` to write them to, readable by you alone; then their verifier keys are printed")
	mustComplete(cmd.MarkFlagDirname("data"))
	return cmd
}
