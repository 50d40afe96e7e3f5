//go:build integration && objectstorage

package embedded_test

import (
	"context"
	"net/http"
	"strconv"
	"testing"

	"github.com/ocisync/ocisync/pkg/embedded"
	"github.com/ocisync/ocisync/pkg/embedded/storage/s3test"
	"github.com/ocisync/ocisync/schema"
)

// TestIntegrationTheRegistryDoesInABucketWhatItDoesOnADisk runs the tests that
// look at no file of a data directory's content once more, in S3.
func TestIntegrationTheRegistryDoesInABucketWhatItDoesOnADisk(t *testing.T) {
	s := s3test.Start(t, "../..")
	bucket := s.Bucket(t, "images")
	before := bucketFor
	parts := map[string]string{} // by data directory
	bucketFor = func(_ *testing.T, data string) embedded.Bucket {
		if parts[data] == "" {
			parts[data] = "/part" + strconv.Itoa(len(parts))
		}
		part, root := *bucket.S3, parts[data]
		part.RootDirectory = &root
		return embedded.Bucket{
			Storage: &schema.Storage{S3: &part},
			Secret:  func(context.Context, schema.SecretRef) (string, error) { return s3test.Secret, nil },
		}
	}
	t.Cleanup(func() {
		bucketFor = before
		http.DefaultClient.CloseIdleConnections() // the driver's
	})
	for name, test := range map[string]func(*testing.T){
		"push and pull":           TestPushAndPullThroughTheFrontDoor,
		"catalogue":               TestCatalogueShowsWhatOneMayPull,
		"repositories":            TestRepositoriesAreSelectedBySegments,
		"mounts":                  TestMountNeedsPullOnTheSource,
		"referrers":               TestReferrersNeedTheRightToPull,
		"many referrers":          TestManyReferrersComeInPages,
		"fallback referrers":      TestFallbackTagsCountAsReferrers,
		"signers at once":         TestSignersAtOnceLoseNothing,
		"quota":                   TestPushBeyondTheQuotaIsDeniedWithLimitAndUse,
		"quota counts once":       TestABlobCountsOnceHoweverManyTagsAndRepositoriesHaveIt,
		"two pushes at once":      TestOfTwoPushesThatDoNotFitTogetherOneDoes,
		"blobs that wait":         TestBlobsWithoutManifestTakeNoMoreThanAsMuchAgain,
		"space given back":        TestDeletionGivesSpaceBackAndUseSurvivesARestart,
		"uploads refused early":   TestUploadsThatCannotFitAreRefusedEarly,
		"nested namespaces":       TestANamespaceWithinANamespaceCountsForItself,
		"immutable tags":          TestImmutableTagsAreNeitherMovedNorDeleted,
		"fixed indexes":           TestWhatAFixedIndexConsistsOfStays,
		"two pushes of one tag":   TestOfTwoPushesToANewImmutableTagOneWins,
		"retention":               TestRetentionRemovesWhatNoRuleKeeps,
		"retention beside pushes": TestRetentionBesidePushesRemovesNothingJustPushed,
		"pulls count":             TestPullsByTagAndByDigestCountAndHeadsDoNot,
		"metrics":                 TestMetricsCountWhatHappensAndAreForAdminsAlone,
		"nothing to collect":      TestAnEmptyStoreIsNothingToCollect,
		"uploads go on":           TestAnUploadGoesOnAfterARestart,
		"what can be no tag":      TestDeletingWhatCanBeNoTagFailsAsItDid,
		"rules change":            TestRulesChangeLive,
	} {
		t.Run(name, test)
	}
}
