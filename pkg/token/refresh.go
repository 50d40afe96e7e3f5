package token

import (
	"errors"

	"github.com/ocisync/ocisync/pkg/access"
)

// A refresh token stands for a password that was right; no registry takes it.
const refreshPrefix = "ocisync1."

func (k *Keys) refresh() seal {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return seal{refreshPrefix, k.refreshes}
}

var errRefresh = errors.New("the refresh token is not valid, or not any more; log in again")

// refreshed returns whose refresh token that is, and by which proof.
func (s *Service) refreshed(text string) (account string, who access.Subject, proof []byte, err error) {
	if s.o.Keys == nil {
		return "", who, nil, errRefresh
	}
	account, proof, ok := s.o.Keys.refresh().open(text, s.now(), RefreshLife, func(account string) (proofs [][]byte) {
		who, proofs = s.o.Accounts.Find(account)
		return proofs
	})
	if !ok {
		return "", access.Subject{}, nil, errRefresh
	}
	return account, who, proof, nil
}
