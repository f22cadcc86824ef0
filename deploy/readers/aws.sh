#!/bin/sh
# Reads the bucket with the AWS command line: the pictures of one day into a folder, manifests and all.
#
#    sh aws.sh my-results images/generations/2026/11/26/ pictures
#
# AWS_ENDPOINT_URL_S3 names a store other than AWS.
set -eu
bucket=$1 prefix=$2 folder=$3

# What is complete: a folder counts once it has a manifest.
aws s3 ls --recursive "s3://$bucket/$prefix" | awk '$4 ~ /\/manifest\.json$/ { print $4 }'

# Files already there are not fetched again: nothing in the bucket ever changes.
aws s3 sync --only-show-errors "s3://$bucket/$prefix" "$folder/$prefix"
